"""A tiny model for every test of the server, made once by each worker."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kaito.inference.testing import tiny_model

# Workers share few cores; threads of threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `tiny_model` wrote `model/` and `adapters/one`, `adapters/two` to; read it only."""
    directory = tmp_path_factory.mktemp("tiny")
    tiny_model(directory)
    return directory

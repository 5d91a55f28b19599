"""Adapters as vLLM gets them: copies with the strength in their weights, compared with the maths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from kaito.inference.errors import BadRequest, ModelNotFound, StartError
from kaito.inference.lora.folder import Matrices, read_adapter
from kaito.inference.testing import tiny_model
from kaito.inference.vllm.adapters import BLEND, prepare


def added(matrices: Matrices) -> torch.Tensor:
    """What an adapter adds to a weight."""
    return matrices.scaling * (matrices.up.double() @ matrices.down.double())


def as_vllm_adds(folder: Path) -> dict[str, torch.Tensor]:
    """What vLLM makes of a folder: one alpha and one rank for all modules."""
    config = json.loads((folder / "adapter_config.json").read_text())
    assert not config.get("rank_pattern")
    assert not config.get("alpha_pattern")
    scaling = config["lora_alpha"] / config["r"]
    return {name: scaling * (each.up.double() @ each.down.double()) for name, each in read_adapter(folder).items()}


def assert_sum(folder: Path, parts: list[tuple[Path, float]]) -> None:
    """A folder adds what some others add, times their strengths."""
    found = as_vllm_adds(folder)
    expected: dict[str, torch.Tensor] = {}
    for part, strength in parts:
        for name, matrices in read_adapter(part).items():
            expected[name] = expected.get(name, torch.zeros(())) + strength * added(matrices)
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        # A float32 product's rounding: what is left of a strength that is worked in exactly.
        torch.testing.assert_close(found[name], weights, rtol=1e-5, atol=1e-7)


def test_at_full_strength_an_adapter_s_own_folder_is_served(tiny: Path, tmp_path: Path) -> None:
    modules = prepare(tiny / "adapters", {}, tmp_path)
    assert [(module.name, module.path, module.rank) for module in modules.each] == [
        ("one", tiny / "adapters/one", 8),
        ("two", tiny / "adapters/two", 4),
    ]
    assert modules.strengths == {"one": 1.0, "two": 1.0}


def test_no_folder_and_an_empty_one_are_no_adapters(tmp_path: Path) -> None:
    assert prepare(None, {}, tmp_path).all == ()
    assert prepare(tmp_path, {}, tmp_path).all == ()


@pytest.mark.parametrize("strength", [0.8, 0.0, -1.5, 2.0])
def test_any_other_strength_is_in_the_weights_of_a_copy(tiny: Path, tmp_path: Path, strength: float) -> None:
    one, two = prepare(tiny / "adapters", {"one": strength}, tmp_path).each
    assert one.path == tmp_path / "one"
    assert_sum(one.path, [(tiny / "adapters/one", strength)])
    assert two.path == tiny / "adapters/two"


def test_all_at_once_are_one_adapter_more_whose_rank_is_the_sum(tiny: Path, tmp_path: Path) -> None:
    modules = prepare(tiny / "adapters", {"one": 0.8, "two": 0.5}, tmp_path)
    assert modules.blend is not None
    assert (modules.blend.name, modules.blend.rank, modules.rank) == (BLEND, 12, 16)
    assert_sum(modules.blend.path, [(tiny / "adapters/one", 0.8), (tiny / "adapters/two", 0.5)])


def rewrite(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_scaling_of_some_modules_alone_is_worked_in_too(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "adapters", tmp_path / "adapters")
    folder = tmp_path / "adapters/one"
    rewrite(folder, alpha_pattern={"o_proj": 1}, use_rslora=True)
    (tmp_path / "work").mkdir()
    modules = prepare(tmp_path / "adapters", {}, tmp_path / "work")
    assert modules.each[0].path == tmp_path / "work/one"
    assert_sum(modules.each[0].path, [(folder, 1.0)])
    assert modules.blend is not None
    assert_sum(modules.blend.path, [(folder, 1.0), (tmp_path / "adapters/two", 1.0)])


def test_a_request_s_strengths_are_those_of_a_module_or_refused(tiny: Path, tmp_path: Path) -> None:
    modules = prepare(tiny / "adapters", {"one": 0.8}, tmp_path)
    assert modules.named({}, "base") == "base"
    assert modules.named({"one": 0.0, "two": 0.0}, "base") == "base"
    assert modules.named({"one": 0.8}, "base") == "one"
    assert modules.named({"two": 1.0, "one": 0.8}, "base") == BLEND
    with pytest.raises(
        BadRequest, match=r'start strengths, which are \{"one": 0.8, "two": 1.0\}.*--runtime transformers'
    ):
        modules.named({"one": 0.9}, "base")
    with pytest.raises(ModelNotFound, match="no adapter three; there are: one, two"):
        modules.named({"three": 1.0}, "base")


def test_of_one_adapter_with_a_strength_all_at_once_are_it(tiny: Path, tmp_path: Path) -> None:
    assert prepare(tiny / "adapters", {"one": 0.0}, tmp_path).named({"one": 0.0, "two": 1.0}, "base") == "two"


def test_adapters_too_large_together_are_served_one_by_one(tmp_path: Path) -> None:
    tiny_model(tmp_path, adapters={"one": 512, "two": 8})
    (tmp_path / "work").mkdir()
    modules = prepare(tmp_path / "adapters", {}, tmp_path / "work")
    assert modules.named({"one": 1.0}, "base") == "one"
    with pytest.raises(BadRequest, match=r"a rank of 520, and vLLM takes 512 at most"):
        modules.named({"one": 1.0, "two": 1.0}, "base")


def test_one_that_vllm_cannot_serve_stops_the_start(tmp_path: Path) -> None:
    tiny_model(tmp_path, adapters={"one": 513})
    with pytest.raises(StartError, match="adapter one: its rank is 513, and vLLM takes at most 512"):
        prepare(tmp_path / "adapters", {}, tmp_path)


def test_the_name_of_all_at_once_is_taken(tmp_path: Path) -> None:
    tiny_model(tmp_path, adapters={BLEND: 4})
    with pytest.raises(StartError, match="this name is taken"):
        prepare(tmp_path / "adapters", {}, tmp_path)

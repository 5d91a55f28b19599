"""What a person can set of the runtime `vllm` beside what all runtimes know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kaito.inference.errors import StartError


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """Settings of vLLM's process.

    Attributes:
        args: of its command line, added after ours, so that they win.
        max_num_seqs: sequences that it continues together.
        gpu_memory_utilization: share of a GPU's memory that it may take; none: what is free, but for a reserve.
        poll_s: seconds between two looks at its health.
        stop_s: seconds that it may take to end once nothing runs in it; then it is killed.
    """

    args: tuple[str, ...] = ()
    max_num_seqs: int = 256
    gpu_memory_utilization: float | None = None
    poll_s: float = 1.0
    stop_s: float = 10.0


def args_of_config(path: Path) -> tuple[str, ...]:
    """The section `vllm:` of an inference_config.yaml as arguments of vLLM's command line.

    Raises:
        StartError: It cannot be read, or the section is no mapping of flags to values.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}; give a file that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    section = config.get("vllm") if isinstance(config, Mapping) else None
    if section is None:
        return ()
    if not isinstance(section, Mapping):
        raise StartError(f"{path}: vllm: is {type(section).__name__}; write vLLM's flags and their values, a line each")
    return tuple(argument for flag, value in section.items() for argument in _flag(path, str(flag), value))


def _flag(path: Path, flag: str, value: Any) -> list[str]:
    name = f"--{flag.lstrip('-').replace('_', '-')}"
    match value:
        case None | True:
            return [name]
        case False:
            return [f"--no-{name.removeprefix('--')}"]
        case str() | int() | float():
            return [name, str(value)]
        case list() if all(isinstance(each, str | int | float) for each in value):
            return [name, *map(str, value)]
        case _:
            raise StartError(f"{path}: vllm.{flag}: {value!r}; a text, a number, true, false or a list of these")

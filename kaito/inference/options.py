"""What a person can set, with its defaults. The command line and the environment fill it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from kaito.inference.vllm.options import VllmOptions

RuntimeName = Literal["auto", "transformers", "vllm"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model and adapters, and in what form.

    Attributes:
        model: a folder with safetensors, or a Hugging Face id.
        revision: branch, tag or commit of an id; none: main.
        token: for gated models; none: as the environment has it.
        served_name: under which clients know it; none: the id, or the folder's name.
        dtype: ``auto``: the checkpoint's on a GPU (float16 where it lacks bfloat16), float32 on a CPU.
        device: ``auto``: the first GPU, else the CPU.
        adapters: folder with one folder for each adapter; none: no adapters.
        strengths: by adapter name; 1.0 where none is given.
        chat_template: a file, or the template itself; none: the model's own.
        trust_remote_code: whether code that comes with a model may run.
        download_dir: where the models of ids are kept; none: Hugging Face's own cache.
    """

    model: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    served_name: str | None = None
    dtype: Dtype = "auto"
    device: str = "auto"
    adapters: Path | None = None
    strengths: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    chat_template: str | None = None
    trust_remote_code: bool = False
    download_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How much runs at once.

    Attributes:
        max_num_seqs: sequences that are continued together; each has a slot of the key-value cache.
        max_model_len: tokens of prompt and answer together; none: the model's context, or what memory allows if less.
        prefill_tokens: prompt tokens worked on between two steps of what runs; bounds how long that waits.
        threads: of torch on a CPU; none: the CPUs that the cgroup grants.
    """

    max_num_seqs: int = 16
    max_model_len: int | None = None
    prefill_tokens: int = 512
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused, and how long things may take.

    Attributes:
        max_waiting: requests without a slot yet.
        max_waiting_tokens: their prompt tokens together.
        request_timeout_s: from the request's arrival to its last token.
        max_body_bytes: of a request.
        drain_s: what runs may take so long after SIGTERM.
    """

    max_waiting: int = 128
    max_waiting_tokens: int = 65536
    request_timeout_s: float = 600.0
    max_body_bytes: int = 4 * 1024 * 1024
    drain_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how the server answers.

    Attributes:
        host: address to listen on; ``0.0.0.0``: every one of IPv4, ``::``: every one of both.
        port: to listen on; 0: a free one, which the log names.
        runtime: what runs the model; ``auto``: vllm where it is installed and has a GPU, else transformers.
        api_keys: any of which opens every path but health; none: all is open.
        log_format: ``console``: lines for people; ``json``: one object a line.
        log_level: the least important lines to write; each request has one at ``debug``, a failed one at ``info``.
    """

    host: str = "0.0.0.0"
    port: int = 5000
    runtime: RuntimeName = "auto"
    api_keys: frozenset[str] = field(default=frozenset(), repr=False)
    log_format: LogFormat = "console"
    log_level: LogLevel = "info"


@dataclass(frozen=True, slots=True)
class Options:
    """All of it.

    Attributes:
        model: which model.
        engine: how much at once.
        limits: what is refused.
        server: where and how it answers.
        vllm: of the runtime of that name alone.
    """

    model: ModelOptions
    engine: EngineOptions = field(default_factory=EngineOptions)
    limits: Limits = field(default_factory=Limits)
    server: ServerOptions = field(default_factory=ServerOptions)
    vllm: VllmOptions = field(default_factory=VllmOptions)

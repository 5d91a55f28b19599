"""The command line of the server: flags and variables to options, threads, the port; then the server itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kaito.inference.cpus import granted_cpus
from kaito.inference.errors import StartError
from kaito.inference.flags import PROGRAM, UsageError, read_flags, unknown_variables
from kaito.inference.options import EngineOptions, Limits, ModelOptions, Options, ServerOptions
from kaito.inference.strengths import read_strengths
from kaito.inference.vllm import VllmOptions, args_of_config

KEYS_VARIABLE = "KAITO_API_KEY"
MOUNTED_ADAPTERS = Path("/mnt/adapter")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_LIBRARY_VARIABLES = {
    # Threads that wait for each other sleep. By default they spin, and where anything else wants the CPU, that one gets
    # what the spinning has left: steps took five times as long beside one busy process. Alone, sleep costs a tenth to a
    # fifth.
    "OMP_WAIT_POLICY": "passive",
    # Compiled kernels that are kept, one for each size of a pass; the default of 1024 came to 50 MiB.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serves until SIGTERM.

    Nothing heavy is imported before flags, variables and port are known to be right: a mistake is told in a
    fraction of a second, and the port answers while torch is still being imported.

    Args:
        arguments: without the program's name; none: those of the process.

    Raises:
        SystemExit: Always; `kaito.inference.flags` lists the statuses.
    """
    # The first process of a container has no default action for signals: without this, SIGTERM would be lost until
    # the server has handlers of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    try:
        options = read_options(sys.argv[1:] if arguments is None else arguments, os.environ)
        listener = listen(options.server.host, options.server.port)
    except UsageError as error:
        _fail(f"{error}", 2)
    except StartError as error:
        _fail(f"{error}", 1)
    for line in unknown_variables(os.environ):
        print(f"{PROGRAM}: warning: {line}", file=sys.stderr)
    set_threads(options.engine.threads, os.environ)
    from kaito.inference.process import run

    sys.exit(run(options, listener))


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The options that flags and variables make.

    Raises:
        UsageError: A flag or its variable is wrong.
        StartError: What they name is not there or cannot be read.
    """
    flags = read_flags(arguments, environment)
    adapters = _adapters(flags["adapters"])
    return Options(
        ModelOptions(
            model=_model(flags["model"]),
            revision=flags["revision"],
            download_dir=Path(flags["download-dir"]) if flags["download-dir"] else None,
            served_name=flags["served-model-name"],
            dtype=flags["dtype"],
            device=flags["device"],
            adapters=adapters,
            strengths=read_strengths(environment, adapters),
            chat_template=flags["chat-template"],
            trust_remote_code=flags["trust-remote-code"],
        ),
        EngineOptions(
            **_if_given("max_num_seqs", flags["max-num-seqs"]),
            max_model_len=flags["max-model-len"],
            prefill_tokens=flags["prefill-tokens"],
            threads=flags["threads"],
        ),
        Limits(
            max_waiting=flags["max-waiting"],
            max_waiting_tokens=flags["max-waiting-tokens"],
            request_timeout_s=flags["request-timeout"],
            max_body_bytes=flags["max-body-bytes"],
            drain_s=flags["drain-timeout"],
        ),
        _server(flags, environment),
        _vllm(flags),
    )


def set_threads(threads: int | None, environment: dict[str, str] | os._Environ[str]) -> None:
    """Tells the libraries under torch how many threads to start, and how: they read it once, when torch is imported.

    A variable that is set stays, unless ``--threads`` says otherwise.
    """
    for name, value in _LIBRARY_VARIABLES.items():
        environment.setdefault(name, value)
    for name in _THREAD_VARIABLES:
        if threads is not None:
            environment[name] = str(threads)
        else:
            environment.setdefault(name, str(granted_cpus()))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; connections wait in it until the server takes them.

    Raises:
        StartError: The address is not this machine's, or the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=2048, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6()
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise StartError(f"--host {host} --port {port}: cannot listen there: {reason}; choose another") from None


def _server(flags: Mapping[str, Any], environment: Mapping[str, str]) -> ServerOptions:
    return ServerOptions(
        host=flags["host"],
        port=flags["port"],
        runtime=flags["runtime"],
        api_keys=_keys(environment.get(KEYS_VARIABLE), flags["api-key-file"]),
        log_format=flags["log-format"],
        log_level=flags["log-level"],
    )


def _vllm(flags: Mapping[str, Any]) -> VllmOptions:
    config = flags["vllm-config"]
    return VllmOptions(
        args=(*(args_of_config(Path(config)) if config else ()), *(flags["vllm-args"] or ())),
        gpu_memory_utilization=flags["gpu-memory-utilization"],
        **_if_given("max_num_seqs", flags["max-num-seqs"]),
    )


def _if_given(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _model(given: str | None) -> str:
    if given is None:
        raise UsageError("--model is missing: a folder with safetensors, or a Hugging Face id; see --help")
    # Told here, since a Hugging Face id looks like neither of these, and seconds before torch is imported.
    if re.match(r"[/.~]", given) and not Path(given).expanduser().is_dir():
        raise StartError(f"--model: {given} is not a folder")
    return str(Path(given).expanduser()) if given.startswith("~") else given


def _adapters(given: str | None) -> Path | None:
    if given is None:
        return MOUNTED_ADAPTERS if MOUNTED_ADAPTERS.is_dir() else None
    if not Path(given).is_dir():
        raise StartError(f"--adapters: {given} is not a folder")
    return Path(given)


def _keys(variable: str | None, file: str | None) -> frozenset[str]:
    keys = [key.strip() for key in (variable or "").split(",")]
    if variable is not None and not any(keys):
        raise StartError(f"{KEYS_VARIABLE} is set and holds no key: unset it if everybody may ask")
    if file is not None:
        try:
            lines = [line.strip() for line in Path(file).read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"--api-key-file: cannot read {file}: {error}") from None
        if not any(lines):
            raise StartError(f"--api-key-file: {file} holds no key: one a line")
        keys += lines
    if strange := [key for key in keys if not re.fullmatch(r"[\x21-\x7e]*", key)]:
        raise StartError(f"an API key of {len(strange[0])} characters has one that no HTTP header can carry")
    return frozenset(key for key in keys if key)


def _fail(message: str, status: int) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)
    sys.exit(status)

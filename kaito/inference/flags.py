"""The flags of the server: their names, what each takes, and what is said about a wrong one."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from kaito.inference.options import Dtype, EngineOptions, Limits, LogFormat, LogLevel, RuntimeName, ServerOptions
from kaito.inference.vllm.options import VllmOptions

PROGRAM = "python -m kaito.inference"
PREFIX = "KAITO_INFERENCE_"

_EXAMPLES = f"""\
examples:
  a folder with safetensors, on the CPUs that the container is granted
      {PROGRAM} --model /models/phi-3-mini
  a Hugging Face id, pinned, under a short name; HF_TOKEN opens gated ones
      {PROGRAM} --model microsoft/Phi-3-mini-4k-instruct --revision main --served-model-name phi-3
  adapters from /adapters/legal and /adapters/polite, the first one at four fifths of its strength
      KAITO_ADAPTERS='{{"legal": 0.8}}' {PROGRAM} --model /models/phi-3-mini --adapters /adapters
  only for those who know a key
      KAITO_API_KEY=secret {PROGRAM} --model /models/phi-3-mini
  then, from elsewhere
      curl -X POST localhost:5000/chat -H 'Content-Type: application/json' -d '{{"prompt": "What is KAITO?"}}'

environment:
  {PREFIX}NAME       the flag --name where it is not given, such as {PREFIX}MAX_NUM_SEQS=32
  KAITO_ADAPTERS             strengths of adapters, as JSON: {{"NAME": 0.8}}; 1.0 for those not named. As in the first
                             KAITO, a variable with an adapter's very name does the same where this one is silent
  KAITO_API_KEY              one API key or several, separated by commas; in a variable or a file, since other users of
                             the machine can read a command line
  HF_TOKEN, HF_HOME          of Hugging Face, for gated models and for where downloads are kept

exit status:
  0  stopped by SIGTERM or SIGINT: what ran was finished or, after --drain-timeout, aborted
  1  cannot serve: no such model, too little memory, a port in use, a strength that is no number
  2  a mistake in the flags or in a variable of their names
  130, 143  a second SIGINT or SIGTERM ended it before all was finished
"""


class UsageError(Exception):
    """A flag is wrong; says which, what was given and what is allowed, in one line."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag.

    Attributes:
        name: without the dashes.
        metavar: what it takes, for the help.
        read: text to value; raises `ValueError` with what is allowed.
        help: one sentence.
        default: where neither the flag nor its variable is given.
        switch: whether it may stand alone.
    """

    name: str
    metavar: str
    read: Callable[[str], Any]
    help: str
    default: Any = None
    switch: bool = False

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return PREFIX + self.name.upper().replace("-", "_")


def read_flags(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Values of all flags by name: from the command line, else from the environment, else the default.

    Raises:
        UsageError: One is unknown or has a value that is not allowed.
        SystemExit: The help was asked for and printed.
    """
    parser = _Parser(
        prog=PROGRAM,
        description="Serves a language model and its LoRA adapters over HTTP: POST /chat as KAITO does, and OpenAI's "
        "/v1/chat/completions, /v1/completions and /v1/models. /health says 503 until the model is loaded.",
        epilog=_EXAMPLES,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    for title, flags in FLAGS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            more: dict[str, Any] = {"nargs": "?", "const": "true"} if flag.switch else {}
            group.add_argument(f"--{flag.name}", metavar=flag.metavar, help=_help(flag), **more)
    given, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise UsageError(_unknown(unknown[0]))
    texts = {name.replace("_", "-"): text for name, text in vars(given).items()}
    return {flag.name: _value(flag, texts[flag.name], environment) for flag in _all()}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like one of a flag and is none."""
    known = [flag.variable for flag in _all()]
    # A Service of the name kaito-inference brings variables of its own into every Pod: …_SERVICE_HOST, …_PORT_80_TCP.
    kubernetes = re.compile(rf"{PREFIX}(SERVICE_|PORT_\d+_)")
    strange = [name for name in environment if name.startswith(PREFIX) and name not in known]
    return [f"{name} is no setting{_near(name, known)}" for name in strange if not kubernetes.match(name)]


def _value(flag: Flag, text: str | None, environment: Mapping[str, str]) -> Any:
    where = f"--{flag.name}"
    if text is None:
        where, text = flag.variable, environment.get(flag.variable)
        # See above: that of a Service is tcp://10.0.0.1:80.
        if text is None or text == "" or (flag.name == "port" and text.startswith("tcp://")):
            return flag.default
    try:
        return flag.read(text)
    except ValueError as error:
        raise UsageError(f"{where}: {text!r} {error}") from None


def _unknown(argument: str) -> str:
    name = argument.partition("=")[0]
    if name == "--api-key":
        return (
            "--api-key: other users of the machine can read a command line; "
            "set the variable KAITO_API_KEY, or give --api-key-file FILE"
        )
    if not name.startswith("-"):
        return f"{argument!r} belongs to no flag; the model is given as --model {argument}"
    return f"{name}: there is no such flag{_near(name, [f'--{flag.name}' for flag in _all()])}; see --help"


def _near(name: str, known: Sequence[str]) -> str:
    [*near] = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _all() -> Iterable[Flag]:
    return (flag for flags in FLAGS.values() for flag in flags)


def _help(flag: Flag) -> str:
    default = "" if flag.default is None or flag.switch else f" (default: {flag.default})"
    return f"{flag.help}{default}".replace("%", "%%")


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    allowed = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < low or (high is not None and int(text) > high):
            raise ValueError(f"is not {allowed}")
        return int(text)

    return read


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,11})(Ki|Mi|Gi)?", text)
    if found is None:
        raise ValueError("is not a number of bytes such as 4194304 or 4Mi")
    powers = {None: 1, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
    return int(found[1]) * powers[found[2]]


def _seconds(low: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text) or float(text) < low:
            raise ValueError(f"is not a number of seconds from {low:g} up, such as 30 or 0.5")
        return float(text)

    return read


def _one_of(literal: Any) -> Callable[[str], str]:
    names = get_args(literal)

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"is none of {', '.join(names)}{_near(text, names)}")
        return text

    return read


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", text):
        raise ValueError("is none of auto, cpu, cuda, cuda:0, cuda:1, …")
    return text


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("is neither true nor false")
    return text.lower() in ("true", "1", "yes")


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"cannot be read as a shell does: {error}") from None


def _share(text: str) -> float:
    if not re.fullmatch(r"0?\.[0-9]+|1(\.0*)?", text) or float(text) == 0:
        raise ValueError("is not a number above 0 and up to 1, such as 0.9")
    return float(text)


_SERVER, _ENGINE, _LIMITS, _VLLM = ServerOptions(), EngineOptions(), Limits(), VllmOptions()

FLAGS: dict[str, tuple[Flag, ...]] = {
    "model": (
        Flag("model", "DIR_OR_ID", _text, "A folder with safetensors, or a Hugging Face id; needed."),
        Flag("download-dir", "DIR", _text, "Where models of Hugging Face are kept; else its own cache, HF_HOME."),
        Flag("revision", "NAME", _text, "Branch, tag or commit of a Hugging Face id."),
        Flag("served-model-name", "NAME", _text, "Under which clients know it; else the id, or the folder's name."),
        Flag(
            "dtype",
            "TYPE",
            _one_of(Dtype),
            "auto, float32, bfloat16, float16 or int8 (CPU only); auto is float32 on a CPU, the checkpoint's on a GPU",
            "auto",
        ),
        Flag("device", "NAME", _device, "auto, cpu, cuda or cuda:N; auto is the first GPU, else the CPU", "auto"),
        Flag("adapters", "DIR", _text, "Folder with one folder for each LoRA adapter; /mnt/adapter if it is there."),
        Flag("chat-template", "FILE", _text, "Instead of the model's own: a file, or the template itself."),
        Flag("trust-remote-code", "BOOL", _yes_or_no, "Run code that comes with the model.", False, switch=True),
    ),
    "server": (
        Flag("host", "ADDRESS", _text, "To listen on; :: is every address of both kinds", _SERVER.host),
        Flag("port", "N", _whole(0, 65535), "To listen on; 0 is a free one, which the log names", _SERVER.port),
        Flag("runtime", "NAME", _one_of(RuntimeName), "auto, transformers or vllm", _SERVER.runtime),
        Flag("api-key-file", "FILE", _text, "API keys, one a line; any of them opens every path but health."),
        Flag("log-format", "NAME", _one_of(LogFormat), "console or json", _SERVER.log_format),
        Flag("log-level", "NAME", _one_of(LogLevel), "debug, info, warning or error", _SERVER.log_level),
    ),
    "how much at once": (
        Flag(
            "max-num-seqs",
            "N",
            _whole(1, 4096),
            f"Sequences that run together; else {_ENGINE.max_num_seqs}, with vllm {_VLLM.max_num_seqs}.",
        ),
        Flag("max-model-len", "N", _whole(2), "Tokens of prompt and answer; else the model's, if memory allows."),
        Flag(
            "prefill-tokens",
            "N",
            _whole(1),
            "Prompt tokens between two steps of what runs; fewer: steadier streams, more: sooner first tokens",
            _ENGINE.prefill_tokens,
        ),
        Flag("threads", "N", _whole(1, 4096), "CPU threads; else as many as the cgroup grants CPUs."),
    ),
    "runtime vllm": (
        Flag("vllm-args", "TEXT", _words, "For vllm serve, as a shell reads them; they win over ours."),
        Flag("vllm-config", "FILE", _text, "A YAML file whose section vllm: has such flags, a line each."),
        Flag(
            "gpu-memory-utilization",
            "SHARE",
            _share,
            "Of a GPU's memory for vllm; else what is free, but for a reserve.",
        ),
    ),
    "limits": (
        Flag("max-waiting", "N", _whole(0), "Requests that may wait; a further one gets 429", _LIMITS.max_waiting),
        Flag("max-waiting-tokens", "N", _whole(1), "Their prompt tokens together", _LIMITS.max_waiting_tokens),
        Flag(
            "request-timeout",
            "SECONDS",
            _seconds(0.001),
            "For one request, waiting included",
            _LIMITS.request_timeout_s,
        ),
        Flag("max-body-bytes", "N", _bytes, "Of a request, such as 4Mi; a longer one gets 413", _LIMITS.max_body_bytes),
        Flag(
            "drain-timeout",
            "SECONDS",
            _seconds(0),
            "For what runs when SIGTERM comes",
            _LIMITS.drain_s,
        ),
    ),
}

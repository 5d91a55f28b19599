"""Command line of the serving benchmark: ``python -m benchmarks.serving``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import targets
from benchmarks.serving.load import Figures
from benchmarks.serving.sides import BARE, BATCHING, OURS, PLAIN, measure
from benchmarks.targets import Target

_TARGETS = (
    Target(
        "S1",
        "throughput_vs_transformers_batching",
        "16 at once: tokens/s by `serve --continuous-batching`",
        "at least",
        1.3,
    ),
    Target(
        "S2", "throughput_vs_transformers_plain", "16 at once: tokens/s by plain `transformers serve`", "at least", 4.0
    ),
    Target("S3", "ttft_p95_vs_transformers_batching", "16 at once: TTFT p95 by that with batching", "at most", 1.0),
    Target("S4", "http_cost", "16 at once: share of the bare engine's tokens/s lost", "at most", 0.10),
)
_GPU_TARGETS = (
    Target("S5", "gpu_share_of_bandwidth", "Phi-3-mini, 1 at once: of what the memory allows", "at least", 0.5),
    Target("S6", "gpu_tokens_per_s_at_16", "Phi-3-mini, 16 at once on an H200: tokens/s", "at least", 4000.0),
)
_COMPARED = 16
_CONCURRENCIES = (1, 4, 16, 64)
_SIDES = (OURS, BATCHING, PLAIN, BARE)
_FEWEST = 8
# One after the other, it would take minutes over the largest load and tell nothing more.
_PLAIN_MOST = 16

Key = tuple[str, int]
Runs = Mapping[Key, Sequence[Figures]]


async def run(arguments: argparse.Namespace) -> None:
    """Loads every side in turn, prints what it took."""
    machine = targets.machine()
    runs: dict[Key, list[Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        model = _model(Path(directory))
        for number in range(1, arguments.runs + 1):
            for concurrency in arguments.concurrency:
                for side in _turn(arguments.sides, number):
                    if side == PLAIN and concurrency > _PLAIN_MOST:
                        continue
                    count = max(_FEWEST, arguments.requests_each * concurrency)
                    one = await measure(side, model, concurrency, count, number, max(arguments.concurrency))
                    runs[side, concurrency].append(one)
                    _note(f"run {number} {side} at {concurrency}: {_line(one)}; load {targets.machine()['load_1min']}")
    found = summary(runs)
    verdicts = targets.verdicts(_TARGETS, found)
    if not arguments.json:
        print(_table(runs), end="\n\n")
        print(targets.table(verdicts))
        return
    raw = {f"{side}@{at}": [asdict(one) for one in measured] for (side, at), measured in runs.items()}
    print(json.dumps(found | {"targets": targets.as_json(verdicts), "machine": machine, "runs": raw}))


async def run_gpu(arguments: argparse.Namespace) -> None:
    """Loads a Phi-3-mini of random weights on the first GPU."""
    import torch

    from benchmarks.serving.gpu import measure_gpu, phi_3_mini

    if not torch.cuda.is_available():
        sys.exit("benchmarks.serving: --gpu: torch finds no CUDA device here")
    name = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as directory:
        _note("writing 3.8 billion random weights")
        measured = await measure_gpu(phi_3_mini(Path(directory)), arguments.runs, "cuda", _note)
    found = {
        "gpu_bandwidth_gb_s": measured.bandwidth_gb_s,
        "gpu_bound_tokens_per_s": measured.bound_tokens_per_s,
        "gpu_share_of_bandwidth": round(measured.tokens_per_s[1] / measured.bound_tokens_per_s, 3),
        **{f"gpu_tokens_per_s_at_{at}": rate for at, rate in measured.tokens_per_s.items()},
    }
    verdicts = targets.verdicts(_GPU_TARGETS, found)
    if arguments.json:
        print(json.dumps(found | {"targets": targets.as_json(verdicts), "machine": targets.machine() | {"gpu": name}}))
        return
    print("\n".join(f"{figure:<30}{value:>10.4g}" for figure, value in found.items()), end="\n\n")
    print(targets.table(verdicts))


def summary(runs: Runs) -> dict[str, float]:
    """Ratios of medians where sixteen ask at once; those whose sides were not measured are left out."""

    def of(side: str, figure: str) -> float | None:
        measured = runs.get((side, _COMPARED))
        return median(getattr(one, figure) for one in measured) if measured else None

    found: dict[str, float] = {}
    for name, figure, against in (
        ("throughput_vs_transformers_batching", "tokens_per_s", BATCHING),
        ("throughput_vs_transformers_plain", "tokens_per_s", PLAIN),
        ("ttft_p95_vs_transformers_batching", "ttft_p95_s", BATCHING),
        ("throughput_vs_bare", "tokens_per_s", BARE),
    ):
        ours, theirs = of(OURS, figure), of(against, figure)
        if ours is not None and theirs is not None:
            found[name] = round(ours / theirs, 3)
    if (share := found.pop("throughput_vs_bare", None)) is not None:
        found["http_cost"] = round(1 - share, 3)
    return found


def _turn(sides: Sequence[str], number: int) -> list[str]:
    """The sides of a run, each run beginning with another one: none has the machine always at its coolest."""
    start = (number - 1) % len(sides)
    return [*sides[start:], *sides[:start]]


def _model(directory: Path) -> Path:
    # Here and not above: torch takes its seconds, which --help need not.
    from kaito.inference.testing import tiny_model

    return tiny_model(directory, hidden_size=512, intermediate_size=1536, layers=8)


def _line(one: Figures) -> str:
    return (
        f"{one.tokens_per_s:.0f} tokens/s, TTFT {one.ttft_p50_s * 1e3:.0f} ms (p95 {one.ttft_p95_s * 1e3:.0f}), "
        f"ITL {one.itl_p50_s * 1e3:.1f} ms (p95 {one.itl_p95_s * 1e3:.1f}), {one.tokens} tokens"
    )


def _table(runs: Runs) -> str:
    header = (
        f"{'side':<24}{'at once':>8}{'tokens/s':>10}{'TTFT p50':>10}{'p95':>8}{'ITL p50':>10}{'p95':>8}   (ms; medians)"
    )
    lines = [header]
    for (side, at), measured in sorted(runs.items(), key=lambda item: (_SIDES.index(item[0][0]), item[0][1])):
        per_s = median(one.tokens_per_s for one in measured)
        times = [
            median(getattr(one, name) for one in measured) * 1e3
            for name in ("ttft_p50_s", "ttft_p95_s", "itl_p50_s", "itl_p95_s")
        ]
        lines.append(
            f"{side:<24}{at:>8}{per_s:>10.0f}{times[0]:>10.0f}{times[1]:>8.0f}{times[2]:>10.1f}{times[3]:>8.1f}"
        )
    return "\n".join(lines)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each side at each concurrency, in turn")
    parser.add_argument("--concurrency", type=int, nargs="+", default=_CONCURRENCIES, help="requests at once")
    parser.add_argument("--requests-each", type=int, default=3, help="of each of those that ask at once")
    parser.add_argument("--sides", nargs="+", choices=_SIDES, default=_SIDES)
    parser.add_argument("--gpu", action="store_true", help="a random Phi-3-mini on the first GPU, and nothing else")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    arguments = parser.parse_args()
    asyncio.run(run_gpu(arguments) if arguments.gpu else run(arguments))


if __name__ == "__main__":
    main()

"""kaito estimate: what a model takes on an instance type, and which ones would do."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kaito.cli.catalog import RuntimeName, known_cloud, load_catalog, smallest_named
from kaito.cli.listing import CatalogOption, Output, OutputOption, fail, show, table, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kaito.catalog import Catalog, GpuSku, ModelPreset
    from kaito.sizing import Part, Sizing


def estimate(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A preset, an alias or a Hugging Face id of kaito models.")
    ],
    instance_type: Annotated[
        str | None, typer.Option("--instance-type", "-t", help="One of kaito skus. Without it, all that do are ranked.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="A GPU of any cloud instead, such as A100-80GB-PCIe.")] = None,
    gpu_count: Annotated[int, typer.Option(min=1, help="With --gpu: how many a node has.")] = 1,
    context_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens to make room for. Default: 2048, or less if the model has less.")
    ] = None,
    runtime: Annotated[
        RuntimeName | None, typer.Option(help="Default: the first of the model's that works there.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="At least this many nodes (resource.count).")] = 1,
    tuning: Annotated[
        Literal["lora", "qlora"] | None, typer.Option(help="Estimate fine-tuning instead of serving.")
    ] = None,
    cloud: Annotated[str | None, typer.Option(help="Without an instance type: of this cloud only.")] = None,
    catalog: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Estimate the nodes and GPUs that a model takes, and say why.

    Exit codes: 0 it fits, 1 it does not or a name is wrong, 2 a missing extra. The formulas are in docs/sizing.md.

    Try: kaito estimate -m phi-3-mini-4k-instruct -t Standard_NC6s_v3;
    kaito estimate -m llama-3.3-70b-instruct --cloud aws; kaito estimate -m phi-4 --gpu L40S --gpu-count 2;
    kaito estimate -m phi-3-mini-4k-instruct -t Standard_NC6s_v3 --tuning qlora.
    """
    _no_idle_flags(
        {"--gpu-count": gpu_count != 1 and gpu is None, "--cloud": cloud is not None and (gpu or instance_type)},
        {"--context-length": context_length, "--runtime": runtime, "--count": count != 1} if tuning else {},
    )
    known = load_catalog(catalog)
    try:
        preset = known.model(model)
        sku = _sku(known, instance_type, gpu, gpu_count)
    except LookupError as error:
        fail(error)
    ask = _Ask(known, preset, context_length, runtime, count, tuning)
    if sku is None:
        ask.rank(known_cloud(known, cloud), output)
    else:
        ask.answer(sku, output)


def _no_idle_flags(alone: Mapping[str, object], of_serving: Mapping[str, object]) -> None:
    """Ends the command for a flag that would change nothing: the answer would be to another question."""
    why = {"--gpu-count": "goes with --gpu", "--cloud": "ranks instance types; leave --instance-type and --gpu out"}
    for flag, idle in alone.items():
        if idle:
            fail(f"{flag} {why[flag]}")
    for flag, idle in of_serving.items():
        if idle:
            fail(f"{flag} is about serving, and does nothing with --tuning; leave one of them out")


def _sku(known: Catalog, instance_type: str | None, gpu: str | None, gpu_count: int) -> GpuSku | None:
    from kaito.catalog import GpuSku

    if instance_type is not None and gpu is not None:
        fail("--instance-type and --gpu are two ways to say the same; give one")
    if gpu is not None:
        return GpuSku.of(known.gpu(gpu), gpu_count)
    return None if instance_type is None else known.sku(instance_type)


class _Ask:
    """One question, put to one instance type or to all."""

    def __init__(
        self,
        known: Catalog,
        preset: ModelPreset,
        context: int | None,
        runtime: RuntimeName | None,
        count: int,
        tuning: Literal["lora", "qlora"] | None,
    ) -> None:
        self._known = known
        self._preset = preset
        self._context = context
        self._runtime = runtime
        self._count = count
        self._tuning = tuning

    def answer(self, sku: GpuSku, output: Output) -> None:
        """Prints whether it fits there, and why; exits with 1 when not."""
        found = self._on(sku)
        if not found["fits"]:
            found["alternatives"] = self._alternatives(sku)
        if output in (Output.JSON, Output.YAML):
            show(found, (), output)
        else:
            write(_told(found))
        if not found["fits"]:
            raise typer.Exit(1)

    def rank(self, cloud: str | None, output: Output) -> None:
        """Prints the instance types that do, fewest nodes first, then smallest; exits with 1 when there are none."""
        found = self._able(self._known.skus_of(cloud))
        if not found:
            of = f" of {cloud}" if cloud else ""
            fail(f"no instance type{of} does for {self._preset.name}; see kaito models {self._preset.name} -o yaml")
        rows = [
            {
                "instance_type": each["instance_type"],
                "cloud": each["cloud"],
                "nodes": each["nodes"],
                "gpus": each["gpus_per_node"],
                "needed_gib": round(float(str(each["needed_gib"])), 1),
                "of_gib": round(float(str(each["available_gib"])), 1),
                "runtime": each["runtime"] or self._tuning,
            }
            for each in found
        ]
        show(found, rows, output)

    def _alternatives(self, sku: GpuSku) -> dict[str, list[str]]:
        """The smallest that do, cloud by cloud, the asked one's first."""
        clouds = sorted(
            {each.cloud for each in self._known.skus.values()}, key=lambda cloud: (cloud != sku.cloud, cloud)
        )
        able = {cloud: self._able(self._known.skus_of(cloud))[:smallest_named] for cloud in clouds}
        return {cloud: [str(each["instance_type"]) for each in found] for cloud, found in able.items() if found}

    def _able(self, skus: Iterable[GpuSku]) -> list[dict[str, object]]:
        found = [each for each in (self._on(sku) for sku in skus) if each["fits"]]
        return sorted(found, key=lambda each: int(str(each["nodes"])))

    def _on(self, sku: GpuSku) -> dict[str, object]:
        from kaito.sizing import CannotRun, DoesNotFit, size, size_tuning

        head = {"model": self._preset.name, "instance_type": sku.name, "cloud": sku.cloud}
        try:
            if self._tuning is not None:
                tuned = size_tuning(self._preset, sku, self._tuning)
                why = f"{self._tuning} of {self._preset.name} needs {tuned.needed_gib:.1f} GiB of GPU memory " + (
                    "on each GPU" if tuned.scope == "gpu" else "on one node"
                )
                found = _memory(tuned.needed_gib, tuned.available_gib, tuned.parts)
                shape = {"fits": tuned.fits, "nodes": 1, "gpus_per_node": sku.gpu_count, "runtime": None}
                return (
                    head
                    | shape
                    | {"why": f"{why}, {sku} has {tuned.available_gib:.1f}"}
                    | found
                    | {"notes": list(tuned.notes)}
                )
            sizing = size(
                self._preset,
                sku,
                count=self._count,
                max_model_len=self._context,
                runtime=self._runtime,
                catalog=self._known,
            )
        except DoesNotFit as error:
            return head | _unfit(error) | _memory(error.needed_gib, error.available_gib, error.parts)
        except CannotRun as error:
            return head | _unfit(error) | {"memory": None}
        return head | _served(sizing)


def _served(sizing: Sizing) -> dict[str, object]:
    return {
        "fits": True,
        "nodes": sizing.nodes,
        "minimum_nodes": sizing.minimum_nodes,
        "gpus_per_node": sizing.gpus_per_node,
        "runtime": sizing.runtime,
        "context_tokens": sizing.context_tokens,
        "why": sizing.explanation,
        **_memory(sizing.needed_gib, sizing.available_gib, sizing.parts),
        "notes": list(sizing.notes),
    }


def _unfit(error: Exception) -> dict[str, object]:
    return {"fits": False, "why": str(error).partition("; choose ")[0], "notes": []}


def _memory(needed_gib: float, available_gib: float, parts: tuple[Part, ...]) -> dict[str, object]:
    return {
        "needed_gib": round(needed_gib, 3),
        "available_gib": round(available_gib, 3),
        "margin_gib": round(available_gib - needed_gib, 3),
        "memory": [asdict(part) | {"gib": round(part.gib, 3)} for part in parts],
    }


def _told(found: dict[str, object]) -> str:
    """The answer in one line, then why: the arithmetic, notes, and what would do."""
    lines = [_wrapped(_first_line(found))]
    memory = found["memory"]
    if isinstance(memory, list):
        end = [("needed", "needed_gib", "the sum"), ("available", "available_gib", ""), ("margin", "margin_gib", "")]
        rows = [(each["name"], each["gib"], each["how"]) for each in memory]
        rows += [(name, found[key], how) for name, key, how in end]
        lines += ["", table([{"part": name, "     gib": f"{gib:8.2f}", "how": how} for name, gib, how in rows])]
    lines += (
        ["", *(_wrapped(f"note: {note}") for note in found["notes"])]
        if isinstance(found["notes"], list) and found["notes"]
        else []
    )
    alternatives = found.get("alternatives")
    if isinstance(alternatives, dict):
        lines += ["", "smallest that do:" if alternatives else "no instance type of the catalogue does"]
        lines += [f"  {cloud + ':':8} {', '.join(names)}" for cloud, names in alternatives.items()]
    return "\n".join(lines)


def _wrapped(said: str) -> str:
    return textwrap.fill(said, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _first_line(found: dict[str, object]) -> str:
    if not found["fits"]:
        return f"does not fit: {found['why']}"
    if found["runtime"] is None:
        return f"fits: {found['why']}"
    nodes, gpus = found["nodes"], found["gpus_per_node"]
    return (
        f"{found['model']} on {found['instance_type']}: {nodes} node{'' if nodes == 1 else 's'} with {gpus} "
        f"GPU{'' if gpus == 1 else 's'} each, {found['runtime']}, context {found['context_tokens']} tokens"
    )

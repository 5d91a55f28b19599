"""kaito models, kaito skus: what the catalogue has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from kaito.cli.listing import CatalogOption, Output, OutputOption, fail, show

if TYPE_CHECKING:
    from kaito.catalog import Catalog, GpuSku, ModelPreset
    from kaito.cli.listing import Row

smallest_named = 3
"""Instance types that a message names, of many."""

RuntimeName = Literal["vllm", "transformers"]
DtypeName = Literal["float16", "int8", "bfloat16", "float8", "float4"]

RuntimeOption = Annotated[RuntimeName | None, typer.Option("--runtime", help="Only what runs on it.")]
ContextOption = Annotated[
    int | None, typer.Option("--context", min=1, help="With --fits: tokens to make room for. Default: 2048.")
]


def models(
    search: Annotated[str, typer.Argument(metavar="TEXT", help="Part of a name, alias or Hugging Face id.")] = "",
    runtime: RuntimeOption = None,
    fits: Annotated[
        str | None, typer.Option(help="Only what this instance type can serve.", metavar="INSTANCE_TYPE")
    ] = None,
    context: ContextOption = None,
    tunable: Annotated[bool, typer.Option("--tunable", help="Only what can be fine-tuned.")] = False,
    gated: Annotated[
        bool | None, typer.Option("--gated/--no-gated", help="Only what needs a token, or what does not.")
    ] = None,
    license_: Annotated[str, typer.Option("--license", help="Part of the licence's name.")] = "",
    deprecated: Annotated[bool, typer.Option("--deprecated", help="Only what is refused for new Workspaces.")] = False,
    catalog: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the models that inference.preset.name and tuning.preset.name can name.

    Names are taken in any case of letters. Sizes are GiB (2^30 bytes).

    Try: kaito models phi; kaito models --fits Standard_NC6s_v3; kaito models --tunable --no-gated;
    kaito models phi-4 -o yaml (one model whole).
    """
    from kaito.catalog import UnknownSku
    from kaito.sizing import fitting

    _context_needs(fits, context)
    known = load_catalog(catalog)
    presets = sorted(_named(known, search), key=lambda preset: preset.name)
    presets = [
        preset
        for preset in presets
        if (runtime is None or runtime in preset.runtimes)
        and (preset.tuning is not None or not tunable)
        and gated in (None, preset.gated)
        and license_.lower() in preset.license.lower()
        and (preset.deprecated or not deprecated)
    ]
    if fits is not None:
        try:
            sku = known.sku(fits)
        except UnknownSku as error:
            fail(error)
        presets = [each for each in presets if fitting(each, [sku], max_model_len=context, runtime=runtime)]
    if not presets:
        _nothing(search, "models", tuple(known.models))
    whole = [preset.model_dump(mode="json") for preset in presets]
    exact = len(presets) == 1 and search.lower() in (key.lower() for key in presets[0].keys)
    show(whole[0] if exact else whole, [_model_row(preset, output) for preset in presets], output)


def skus(
    search: Annotated[str, typer.Argument(metavar="TEXT", help="Part of a name.")] = "",
    cloud: Annotated[str | None, typer.Option(help="Only of azure, aws, arc or a cloud of your own.")] = None,
    gpu: Annotated[str, typer.Option(help="Part of the GPU's name, such as A100.")] = "",
    min_gpu_memory: Annotated[float, typer.Option(min=0, help="GiB that each GPU must have.", metavar="GIB")] = 0,
    fits: Annotated[str | None, typer.Option(help="Only what can serve this model.", metavar="MODEL")] = None,
    context: ContextOption = None,
    runtime: RuntimeOption = None,
    dtype: Annotated[
        DtypeName | None, typer.Option(help="Only GPUs whose tensor cores have this number format.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what was retired and what nothing here can run on; marked.")
    ] = False,
    catalog: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the instance types that resource.instanceType can name, by GPU memory within each cloud.

    With --fits, NODES is how many of them the model takes. Those that their cloud has retired need --all.

    Try: kaito skus --gpu A100 --cloud azure; kaito skus --fits llama-3.3-70b-instruct --cloud aws;
    kaito skus --dtype float8 --min-gpu-memory 80.
    """
    _context_needs(fits, context)
    known = load_catalog(catalog)
    cloud = known_cloud(known, cloud)
    named = [
        sku
        for sku in known.skus.values()
        if any(search.lower() in key.lower() for key in sku.keys)
        and cloud in (None, sku.cloud)
        and any(gpu.lower() in name.lower() for name in (sku.gpu.name, sku.gpu.model))
        and sku.gpu.memory_gib >= min_gpu_memory
        and (dtype is None or dtype in sku.gpu.dtypes)
    ]
    found = [sku for sku in named if everything or (sku.schedulable and not sku.retired)]
    if named and not found:
        fail(_only_with_all(named))
    nodes = {} if fits is None else _nodes(known, fits, found, context, runtime)
    if fits is not None:
        found = [sku for sku in found if sku.name in nodes]
    if not found:
        _nothing(search, "instance types", tuple(known.skus))
    found.sort(key=lambda sku: (sku.cloud, sku.total_gpu_memory_gib, sku.gpu_count, sku.name))
    count = {name: {"nodes": number} for name, number in nodes.items()}
    whole = [_sku_whole(sku) | count.get(sku.name, {}) for sku in found]
    show(whole, [_sku_row(sku, output) | count.get(sku.name, {}) for sku in found], output)


def known_cloud(known: Catalog, cloud: str | None) -> str | None:
    """The cloud as the catalogue writes it; one that it has not ends the command."""
    from kaito.catalog import did_you_mean

    clouds = {sku.cloud.lower(): sku.cloud for sku in known.skus.values()}
    if cloud is None:
        return None
    if cloud.lower() not in clouds:
        meant = did_you_mean(cloud, clouds)
        asked = f"; did you mean {meant}?" if meant else ";"
        fail(f"no cloud {cloud!r} in the catalogue{asked} choose among {', '.join(sorted(clouds))}")
    return clouds[cloud.lower()]


def _context_needs(fits: str | None, context: int | None) -> None:
    if context is not None and fits is None:
        fail("--context says what room --fits has to make; give --fits, too")


def _only_with_all(hidden: list[GpuSku]) -> str:
    """What a search found that is not shown unasked."""
    named = [f"{sku.name} ({'retired' if sku.retired else 'not NVIDIA'})" for sku in hidden[:smallest_named]]
    more = f" and {len(hidden) - smallest_named} more" if len(hidden) > smallest_named else ""
    return f"only {', '.join(named)}{more}: to see what was retired or cannot be run on, add --all"


def _nodes(
    known: Catalog, model: str, skus: list[GpuSku], context: int | None, runtime: RuntimeName | None
) -> dict[str, int]:
    """How many nodes a model takes, of each instance type that can serve it."""
    from kaito.catalog import UnknownModel
    from kaito.sizing import SizingError, size

    try:
        preset = known.model(model)
    except UnknownModel as error:
        fail(error)
    nodes = {}
    for sku in skus:
        try:
            nodes[sku.name] = size(preset, sku, max_model_len=context, runtime=runtime, catalog=known).nodes
        except SizingError:
            continue
    return nodes


def load_catalog(path: CatalogOption) -> Catalog:
    """The catalogue with a file over it; a fault of the file ends the command."""
    from kaito.catalog import Catalog, CatalogError

    try:
        return Catalog.load(path)
    except CatalogError as error:
        fail(error)


def _named(known: Catalog, search: str) -> list[ModelPreset]:
    """A whole name means that model only: phi-4 is no search for phi-4-mini."""
    exact = [each for each in known.models.values() if search.lower() in (key.lower() for key in each.keys)]
    part = search.lower()
    return exact or [each for each in known.models.values() if any(part in key.lower() for key in each.keys)]


def _nothing(search: str, what: str, names: tuple[str, ...]) -> None:
    from kaito.catalog import did_you_mean

    meant = did_you_mean(search, names) if search else None
    fail(f"no {what} like that" + (f"; did you mean {meant}?" if meant else "; leave a filter out to see more"))


def _model_row(preset: ModelPreset, output: Output) -> Row:
    marks = [mark for mark, is_so in (("gated", preset.gated), ("deprecated", preset.deprecated)) if is_so]
    row: dict[str, object] = {
        "name": preset.name,
        "weights": preset.weights_gib,
        "context": preset.context_tokens,
        "runtimes": "both" if len(preset.runtimes) == len(get_args(RuntimeName)) else preset.runtimes[0],
        "notes": marks,
    }
    if output is Output.WIDE:
        row |= {
            "tunable": preset.tuning is not None,
            "attention": preset.attention,
            "kv_bytes_per_token": preset.kv_bytes_per_token,
            "quantization": preset.quantization,
            "disk_gib": preset.disk_gib,
            "min_gpu_gib": preset.min_total_gpu_memory_gib,
            "timeout_min": preset.readiness_timeout_minutes,
            "license": preset.license,
            "huggingface_id": preset.huggingface_id,
            "aliases": preset.aliases,
        }
    return row


def _sku_whole(sku: GpuSku) -> dict[str, object]:
    return sku.model_dump(mode="json") | {"dtypes": list(sku.gpu.dtypes), "schedulable": sku.schedulable}


def _sku_row(sku: GpuSku, output: Output) -> dict[str, object]:
    marks = ["retired"] if sku.retired else []
    marks += [] if sku.schedulable else ["not NVIDIA"]
    row: dict[str, object] = {
        "name": sku.name,
        "cloud": sku.cloud,
        "gpus": sku.gpu_count,
        "gpu": sku.gpu.name,
        "gib": sku.gpu.memory_gib,
        "bf16": sku.gpu.has_bfloat16,
    }
    if output is Output.WIDE:
        row |= {
            "gib_in_all": sku.total_gpu_memory_gib,
            "dtypes": sku.gpu.dtypes,
            "vcpus": sku.vcpus,
            "memory_gib": sku.memory_gib,
            "nvme": sku.nvme,
            "retired": str(sku.retired) if sku.retired else None,
        }
    return row | {"notes": marks}

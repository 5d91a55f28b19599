"""size: how many nodes of an instance type serve a model, and what to choose when that one cannot.

Two rules, by what will run the model:

- vLLM: KAITO's node estimator (0.12): each GPU gives vLLM a share of its memory; of that, 2.3 GiB and the KV cache of
  one full context are set aside; the rest, less 5 %, is for weights, which may spread over nodes.
- transformers: one node, and the preset's own figure (KAITO 0.6 presets) must fit its GPUs' memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor
from typing import assert_never

from kaito.catalog import Catalog, GpuSku, ModelPreset, Runtime
from kaito.sizing.budget import Part, bytes_per_gib, capability_of, fragmentation_factor, plural
from kaito.sizing.errors import CannotRun, DoesNotFit, SizingError

default_context_tokens = 2048
"""The context that room is made for where none is asked for (KAITO 0.12)."""

weights_factor = 1.02
"""Loaded weights over their files (KAITO 0.12)."""

gpu_reserve_gib = 2.3
"""What CUDA, activations and graphs take of each GPU under vLLM (KAITO 0.12)."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Nodes and GPUs for a model.

    Attributes:
        preset: the model's name.
        sku: the instance type's name, as its cloud writes it.
        runtime: what is to run the model.
        nodes: how many nodes to have: what the model needs, or the count that was asked for if that is more.
        minimum_nodes: how many nodes one copy of the model needs.
        gpus_per_node: GPUs that each pod asks for: all that a node has.
        needed_gib: GPU memory that the model needs of one node's GPUs, or of all when it spans nodes.
        available_gib: GPU memory that those nodes give.
        explanation: the arithmetic, in one sentence.
        parts: what `needed_gib` is made of; their sum.
        context_tokens: the context that room was made for.
        notes: what a user should know beforehand, a sentence each.
    """

    preset: str
    sku: str
    runtime: Runtime
    nodes: int
    minimum_nodes: int
    gpus_per_node: int
    needed_gib: float
    available_gib: float
    explanation: str
    parts: tuple[Part, ...]
    context_tokens: int
    notes: tuple[str, ...] = ()


def size(
    preset: ModelPreset,
    sku: GpuSku,
    *,
    count: int = 1,
    max_model_len: int | None = None,
    runtime: Runtime | None = None,
    catalog: Catalog | None = None,
) -> Sizing:
    """Returns the nodes and GPUs that serve a model.

    Args:
        preset: the model.
        sku: the instance type of all nodes.
        count: at least this many nodes (`resource.count`).
        max_model_len: the longest context to make room for, in tokens; None: 2048, or less if the model has less.
        runtime: what is to run it; None: the first of the model's runtimes that works on these GPUs.
        catalog: where other instance types are looked for when this one cannot serve; None: the built-in one.

    Raises:
        DoesNotFit: the GPU memory is too small, on any number of nodes that the model may span.
        CannotRun: these GPUs, the runtime and the model, or such a context, do not go together.
        ValueError: `count` or `max_model_len` is below 1.
    """
    if count < 1 or (max_model_len is not None and max_model_len < 1):
        raise ValueError(f"count ({count}) and max_model_len ({max_model_len}) must be 1 or more")
    ask = _Ask(preset, max_model_len, runtime)
    need = _need(ask, sku)
    if isinstance(need, str):
        raise _with_suggestions(need, None, ask, sku, catalog)
    if need.nodes is None:
        raise _with_suggestions(need.shortfall, need, ask, sku, catalog)
    return Sizing(
        preset=preset.name,
        sku=sku.name,
        runtime=need.runtime,
        nodes=max(count, need.nodes),
        minimum_nodes=need.nodes,
        gpus_per_node=sku.gpu_count,
        needed_gib=need.needed_gib,
        available_gib=need.available_gib,
        explanation=need.explanation,
        parts=need.parts,
        context_tokens=ask.context_tokens,
        notes=_notes(ask, sku, need, count),
    )


def fits(preset: ModelPreset, sku: GpuSku, *, max_model_len: int | None = None, runtime: Runtime | None = None) -> bool:
    """Tells whether one node of an instance type can serve a model; arguments as for `size`."""
    need = _need(_Ask(preset, max_model_len, runtime), sku)
    return not isinstance(need, str) and need.nodes == 1


def fitting(
    preset: ModelPreset,
    skus: Iterable[GpuSku],
    *,
    max_model_len: int | None = None,
    runtime: Runtime | None = None,
) -> tuple[GpuSku, ...]:
    """Returns the instance types that can serve a model: the fewest nodes first, else in the order given."""
    ask = _Ask(preset, max_model_len, runtime)
    needs = [(sku, _need(ask, sku)) for sku in skus]
    able = [(need.nodes, sku) for sku, need in needs if not isinstance(need, str) and need.nodes is not None]
    return tuple(sku for _, sku in sorted(able, key=lambda pair: pair[0]))


def usable_runtimes(preset: ModelPreset, sku: GpuSku) -> tuple[Runtime, ...]:
    """Returns the model's runtimes that work on these GPUs, in the model's order.

    Without bfloat16 (CUDA below 8.0) only transformers is left, in float16, for models that bear it unquantised.
    """
    if not sku.schedulable:
        return ()
    if sku.gpu.has_bfloat16:
        return preset.runtimes
    able = preset.float16 and preset.quantization is None
    return tuple(runtime for runtime in preset.runtimes if able and runtime == "transformers")


@dataclass(frozen=True, slots=True)
class _Ask:
    preset: ModelPreset
    max_model_len: int | None
    runtime: Runtime | None

    @property
    def context_tokens(self) -> int:
        return self.max_model_len or min(default_context_tokens, self.preset.context_tokens)


@dataclass(frozen=True, slots=True)
class _Need:
    runtime: Runtime
    nodes: int | None  # None: no number of nodes that the model may span is enough
    parts: tuple[Part, ...]
    available_gib: float
    explanation: str
    shortfall: str

    @property
    def needed_gib(self) -> float:
        return sum(part.gib for part in self.parts)


def _need(ask: _Ask, sku: GpuSku) -> _Need | str:
    """The need of one copy of the model, or why it cannot run here at all."""
    preset = ask.preset
    if ask.context_tokens > preset.context_tokens:
        return f"{preset.name} takes {preset.context_tokens} tokens at most; lower max-model-len ({ask.context_tokens})"
    if ask.runtime is not None and ask.runtime not in preset.runtimes:
        return f"{preset.name} does not run on {ask.runtime}; it runs on {' or '.join(preset.runtimes)}"
    runtimes = usable_runtimes(preset, sku)
    runtime = ask.runtime if ask.runtime in runtimes else next(iter(runtimes), None)
    if runtime is None or (ask.runtime is not None and runtime != ask.runtime):
        return _why_not(preset, sku, ask.runtime)
    match runtime:
        case "vllm":
            return _need_of_vllm(ask, sku)
        case "transformers":
            return _need_of_transformers(ask, sku)
    assert_never(runtime)


def _why_not(preset: ModelPreset, sku: GpuSku, runtime: Runtime | None) -> str:
    if sku.gpu.cuda_capability is None or not sku.schedulable:
        return f"{sku} cannot serve models: only NVIDIA GPUs can"
    has = f"{sku} has CUDA {capability_of(sku)}"
    if runtime == "vllm" or preset.runtimes == ("vllm",):
        return f"{preset.name} runs on vllm, which needs CUDA 8.0; {has}"
    cause = f"is quantised ({preset.quantization})" if preset.quantization else "cannot be run in float16"
    return f"{preset.name} {cause} and so needs bfloat16, that is CUDA 8.0; {has}"


def _need_of_vllm(ask: _Ask, sku: GpuSku) -> _Need:
    preset, gpus = ask.preset, sku.gpu_count
    weights_gib = preset.weights_gib * weights_factor
    usable_gib = sku.gpu.memory_gib * sku.gpu.gpu_memory_utilization
    reserve_gib = gpu_reserve_gib + _kv_cache_gib(preset, ask.context_tokens) / gpus
    room_gib = (usable_gib - reserve_gib) / fragmentation_factor
    nodes = ceil((floor(weights_gib / room_gib) + 1) / gpus) if room_gib > 0 else None
    may_span = nodes == 1 or preset.distributed
    counted = (nodes or 1) if may_span else 1
    parts = _parts_of_vllm(ask, gpus, counted)
    available_gib = usable_gib * gpus * counted
    return _Need(
        runtime="vllm",
        nodes=nodes if may_span else None,
        parts=parts,
        available_gib=available_gib,
        explanation=(
            f"vllm: {weights_gib:.1f} GiB of weights; each {sku.gpu.model} gives {usable_gib:.1f} of "
            f"{sku.gpu.memory_gib:g} GiB, of which {reserve_gib:.1f} are set aside (KV cache of {ask.context_tokens} "
            f"tokens included): {plural(nodes or 0, 'node')} of {plural(gpus, 'GPU')}"
        ),
        shortfall=(
            f"{preset.name} needs {sum(part.gib for part in parts):.1f} GiB of GPU memory on one node (context "
            f"{ask.context_tokens} tokens, vllm), {sku} gives {available_gib:.1f} GiB, and more nodes would not help"
        ),
    )


def _parts_of_vllm(ask: _Ask, gpus: int, nodes: int) -> tuple[Part, ...]:
    preset = ask.preset
    weights_gib = preset.weights_gib * weights_factor
    room = fragmentation_factor - 1
    each = f", on each of {nodes} nodes" if nodes > 1 else ""
    kv_cache = f"{ask.context_tokens} tokens x {preset.kv_bytes_per_token} bytes{each}"
    reserve = f"{gpu_reserve_gib:g} GiB on each of {plural(gpus * nodes, 'GPU')}"
    return (
        Part("weights", weights_gib, f"{preset.weights_gib:g} GiB of files x {weights_factor:g}"),
        Part("fragmentation", weights_gib * room, f"{room:.0%} of the weights"),
        Part("KV cache", _kv_cache_gib(preset, ask.context_tokens) * nodes, kv_cache),
        Part("reserve", gpu_reserve_gib * gpus * nodes, reserve),
    )


def _need_of_transformers(ask: _Ask, sku: GpuSku) -> _Need:
    preset = ask.preset
    parts = _parts_of_transformers(ask)
    needed_gib = sum(part.gib for part in parts)
    available_gib = sku.total_gpu_memory_gib
    gpu_need_gib = preset.min_gpu_memory_gib or 0
    enough = needed_gib <= available_gib and gpu_need_gib <= sku.gpu.memory_gib and preset.min_gpus <= sku.gpu_count
    each = f" with {gpu_need_gib:g} GiB or more each" if gpu_need_gib else ""
    gpus = f" in {plural(preset.min_gpus, 'GPU')} or more{each}" if each or preset.min_gpus > 1 else ""
    need = f"{needed_gib:.1f} GiB of GPU memory on one node{gpus} (context {ask.context_tokens} tokens, transformers)"
    return _Need(
        runtime="transformers",
        nodes=1 if enough else None,
        parts=parts,
        available_gib=available_gib,
        explanation=f"transformers: {preset.name} needs {need}; {sku} has {available_gib:.1f} GiB: 1 node",
        shortfall=f"{preset.name} needs {need}, {sku} has {available_gib:.1f} GiB",
    )


def _parts_of_transformers(ask: _Ask) -> tuple[Part, ...]:
    preset, weights_gib = ask.preset, ask.preset.weights_gib * weights_factor
    stated_gib = preset.min_total_gpu_memory_gib
    files = f"{preset.weights_gib:g} GiB of files x {weights_factor:g}"
    if stated_gib is None:
        kv_gib = _kv_cache_gib(preset, ask.context_tokens)
        return (
            Part("weights", weights_gib, files),
            Part("KV cache", kv_gib, f"{ask.context_tokens} tokens x {preset.kv_bytes_per_token} bytes"),
            Part("reserve", gpu_reserve_gib, "CUDA and activations"),
        )
    # The preset's figure has room for a usual context; a longer one comes on top.
    more_tokens = max(0, ask.context_tokens - default_context_tokens)
    base = (
        Part("preset's figure", stated_gib, f"weights, and a context of {default_context_tokens} tokens")
        if stated_gib >= weights_gib
        else Part("weights", weights_gib, f"{files}, over the preset's figure of {stated_gib:g} GiB")
    )
    if not more_tokens:
        return (base,)
    per_token = f"{more_tokens} tokens over {default_context_tokens} x {preset.kv_bytes_per_token} bytes"
    return (base, Part("KV cache", _kv_cache_gib(preset, more_tokens), per_token))


def _kv_cache_gib(preset: ModelPreset, tokens: int) -> float:
    return tokens * preset.kv_bytes_per_token / bytes_per_gib


def _with_suggestions(message: str, need: _Need | None, ask: _Ask, sku: GpuSku, catalog: Catalog | None) -> SizingError:
    candidates = (catalog or Catalog.load()).skus_of(sku.cloud)
    able = fitting(ask.preset, candidates, max_model_len=ask.max_model_len, runtime=ask.runtime)
    names = tuple(other.name for other in able)
    if able:
        message = f"{message}; choose {able[0]}, the smallest of {sku.cloud} that fits"
    if need is None:
        return CannotRun(message, names)
    return DoesNotFit(message, need.needed_gib, need.available_gib, names, need.parts)


def _notes(ask: _Ask, sku: GpuSku, need: _Need, count: int) -> tuple[str, ...]:
    notes = []
    if sku.retired:
        notes.append(f"{sku.name} was retired by {sku.cloud} on {sku.retired}: new nodes may be refused")
    if not sku.gpu.has_bfloat16:
        notes.append(
            f"{sku.gpu.model} has CUDA {capability_of(sku)}, below 8.0: no bfloat16, so the model runs in float16, and "
            f"no vLLM, so it runs on transformers"
        )
    if ask.preset.deprecated:
        notes.append(f"{ask.preset.name} is deprecated: choose a newer model for new work")
    if need.nodes is not None and count > need.nodes:
        notes.append(f"{ask.preset.name} needs {plural(need.nodes, 'node')} of {sku.name}; {count} were asked for")
    return tuple(notes)

"""size_tuning: whether one node of an instance type fine-tunes a model, by either method, and what it takes.

- lora: the preset's own figures (KAITO 0.6), for all GPUs of the node and for each.
- qlora: an estimate of our own, for each GPU, since each holds the whole model: weights in 4 bits, embeddings in 32,
  the adapter with its optimizer, the activations of one batch under gradient checkpointing, and a reserve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from kaito.catalog import GpuSku, ModelPreset, Network, TuningMethod, TuningNeeds
from kaito.sizing.budget import Part, bytes_per_gib, capability_of, fragmentation_factor
from kaito.sizing.errors import CannotRun

default_sequence_tokens = 1024
"""Where examples are cut (TRL's SFTConfig.max_length)."""

bits_per_quantised_weight = 4 + 8 / 64 + 32 / (64 * 256)
"""NF4 in blocks of 64 with an 8-bit constant each, and one of 32 bits for 256 of those: 4.127 (QLoRA paper)."""

lora_rank = 8
"""Rank of the adapters (KAITO's training_config.yaml)."""

bytes_per_trained_parameter = 16
"""Weight, gradient and Adam's two moments, in float32."""

bytes_per_kept_parameter = 4
"""PEFT's prepare_model_for_kbit_training turns what is not quantised into float32."""

bytes_per_logit = 12
"""Logits, their softmax and their gradient, in float32."""

tuning_reserve_gib = 1.5
"""What the CUDA context, its libraries and their workspaces take of a GPU; our own allowance, nothing stated it."""

visible_share = 0.9375
"""GPU memory that a driver reports, over the nominal; an A10's 22.5 of 24 GiB is the least of the catalogue's parts."""


@dataclass(frozen=True, slots=True)
class TuningSizing:
    """Whether fine-tuning fits, and by how much.

    Attributes:
        preset: the model's name.
        sku: the instance type's name, as its cloud writes it.
        method: lora or qlora.
        fits: whether what is needed is there. It is an estimate: a reason to warn, not to refuse.
        scope: what the two figures are for: each `gpu`, or all GPUs of a `node`.
        needed_gib: GPU memory needed.
        available_gib: GPU memory there.
        parts: what `needed_gib` is made of; their sum.
        notes: what a user should know beforehand, a sentence each.
    """

    preset: str
    sku: str
    method: TuningMethod
    fits: bool
    scope: Literal["gpu", "node"]
    needed_gib: float
    available_gib: float
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


def size_tuning(
    preset: ModelPreset,
    sku: GpuSku,
    method: TuningMethod,
    *,
    batch_size: int = 1,
    sequence_tokens: int = default_sequence_tokens,
) -> TuningSizing:
    """Returns whether one node fine-tunes a model.

    Args:
        preset: the model.
        sku: the instance type of the node.
        method: lora, or qlora, which keeps the weights in 4 bits.
        batch_size: examples at a time on each GPU; counts for qlora.
        sequence_tokens: where examples are cut, at most the model's context; counts for qlora.

    Raises:
        CannotRun: the model cannot be tuned so, or not on these GPUs, whatever their memory.
        ValueError: `batch_size` or `sequence_tokens` is below 1.
    """
    if batch_size < 1 or sequence_tokens < 1:
        raise ValueError(f"batch_size ({batch_size}) and sequence_tokens ({sequence_tokens}) must be 1 or more")
    needs = _needs(preset, sku, method)
    tokens = batch_size * min(sequence_tokens, preset.context_tokens)
    match method:
        case "lora":
            return _sized(preset, sku, method, *_by_preset(needs, sku))
        case "qlora" if needs.network is None:
            return _sized(preset, sku, method, *_by_preset(needs, sku), _uncounted(preset))
        case "qlora":
            available_gib = sku.gpu.memory_gib * visible_share
            return _sized(preset, sku, method, "gpu", _parts_of_qlora(preset, needs.network, tokens), available_gib)
    assert_never(method)


def _needs(preset: ModelPreset, sku: GpuSku, method: TuningMethod) -> TuningNeeds:
    if preset.tuning is None:
        raise CannotRun(f"{preset.name} cannot be fine-tuned; see those that can: kaito models --tunable")
    if method not in preset.tuning.methods:
        raise CannotRun(f"{preset.name} is not tuned with {method}; choose {' or '.join(preset.tuning.methods)}")
    if preset.quantization is not None:
        raise CannotRun(f"{preset.name} is quantised ({preset.quantization}) already; tune the 16-bit model it is of")
    if not sku.schedulable:
        raise CannotRun(f"{sku} cannot tune models: only NVIDIA GPUs can")
    if not (sku.gpu.has_bfloat16 or preset.float16):
        raise CannotRun(
            f"{preset.name} cannot be tuned in float16 and so needs bfloat16, that is CUDA 8.0; {sku} has CUDA "
            f"{capability_of(sku)}"
        )
    return preset.tuning


def _by_preset(needs: TuningNeeds, sku: GpuSku) -> tuple[Literal["gpu", "node"], tuple[Part, ...], float]:
    """The figure of the two that is not met; that of the node where both are, or neither is."""
    each_gib, all_gib = needs.min_gpu_memory_gib, needs.min_total_gpu_memory_gib
    if each_gib > sku.gpu.memory_gib and all_gib <= sku.total_gpu_memory_gib:
        return "gpu", (Part("preset's figure", each_gib, "for each GPU"),), sku.gpu.memory_gib
    return "node", (Part("preset's figure", all_gib, "for all GPUs of a node"),), sku.total_gpu_memory_gib


def _parts_of_qlora(preset: ModelPreset, network: Network, tokens: int) -> tuple[Part, ...]:
    kept = network.embedding_parameters
    quantised = max(0.0, preset.weights_gib * bytes_per_gib / 2 - kept)
    trained = lora_rank * network.layers * (11 * network.hidden_size + 3 * network.feed_forward_size)
    weights = (
        Part(
            "4-bit weights",
            _gib(quantised * bits_per_quantised_weight / 8),
            f"{quantised / 1e9:.2f} billion parameters",
        ),
        Part("embeddings", _gib(kept * bytes_per_kept_parameter), f"{kept / 1e9:.2f} billion parameters in float32"),
        Part(
            "adapter", _gib(trained * bytes_per_trained_parameter), f"rank {lora_rank}, with gradients and Adam's state"
        ),
    )
    activations = Part("activations", _gib(_activation_bytes(network, tokens)), f"{tokens} tokens, checkpointed")
    logits = Part(
        "logits", _gib(tokens * network.vocabulary * bytes_per_logit), f"{tokens} tokens x {network.vocabulary}"
    )
    parts = (*weights, activations, logits)
    room = fragmentation_factor - 1
    return (
        *parts,
        Part("fragmentation", sum(part.gib for part in parts) * room, f"{room:.0%} of all that"),
        Part("reserve", tuning_reserve_gib, "CUDA context and libraries"),
    )


def _activation_bytes(network: Network, tokens: int) -> int:
    """With gradient checkpointing: one hidden state a layer; one layer computed anew, and its gradients.

    A layer by Korthikanti et al. 2022 (17 h + 8 f bytes a token in 16 bits, attention scores never stored), in 32 bits,
    twice; and its largest matrices, widened to 16 bits.
    """
    hidden, inner = network.hidden_size, network.feed_forward_size
    checkpoints = network.layers * tokens * hidden * 4
    layer = 2 * tokens * 2 * (17 * hidden + 8 * inner)
    return checkpoints + layer + 2 * 2 * hidden * inner


def _gib(size_bytes: float) -> float:
    return size_bytes / bytes_per_gib


def _uncounted(preset: ModelPreset) -> str:
    return f"{preset.name} has no tuning.network in the catalogue, so that qlora is counted as lora, which needs more"


def _sized(
    preset: ModelPreset,
    sku: GpuSku,
    method: TuningMethod,
    scope: Literal["gpu", "node"],
    parts: tuple[Part, ...],
    available_gib: float,
    *notes: str,
) -> TuningSizing:
    needed_gib = sum(part.gib for part in parts)
    return TuningSizing(
        preset=preset.name,
        sku=sku.name,
        method=method,
        fits=needed_gib <= available_gib,
        scope=scope,
        needed_gib=needed_gib,
        available_gib=available_gib,
        parts=parts,
        notes=(*notes, *_notes(preset, sku, method)),
    )


def _notes(preset: ModelPreset, sku: GpuSku, method: TuningMethod) -> tuple[str, ...]:
    notes = []
    if sku.retired:
        notes.append(f"{sku.name} was retired by {sku.cloud} on {sku.retired}: new nodes may be refused")
    if not sku.gpu.has_bfloat16:
        where = (
            "the 4-bit weights are computed with in float16" if method == "qlora" else "the model is tuned in float16"
        )
        notes.append(f"{sku.gpu.model} has CUDA {capability_of(sku)}, below 8.0: no bfloat16, so {where}")
    if preset.deprecated:
        notes.append(f"{preset.name} is deprecated: choose a newer model for new work")
    return tuple(notes)

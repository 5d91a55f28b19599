"""ModelPreset: one model of the catalogue, with what it weighs, needs and can do."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kaito.catalog.entry import Count, Entry, Figures, GiB, Name

Runtime = Literal["vllm", "transformers"]
Attention = Literal["MHA", "GQA", "MQA", "MLA"]
TuningMethod = Literal["lora", "qlora"]


class Network(Figures):
    """The dimensions of a model's network, as its config.json has them; fine-tuning in 4 bits is sized from them."""

    layers: Count
    hidden_size: Count
    feed_forward_size: Count
    vocabulary: Count
    tied_embeddings: bool = False
    """Whether one matrix is both the token embeddings and the output layer."""

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embeddings and of the output layer."""
        return self.vocabulary * self.hidden_size * (1 if self.tied_embeddings else 2)


class TuningNeeds(Figures):
    """What fine-tuning the model takes, as KAITO's presets state it. Sizes in GiB (2**30 bytes)."""

    disk_gib: GiB
    min_total_gpu_memory_gib: GiB
    min_gpu_memory_gib: GiB
    methods: Annotated[tuple[TuningMethod, ...], Field(min_length=1)] = ("lora", "qlora")
    network: Network | None = None


class ModelPreset(Entry):
    """A model that `inference.preset.name` or `tuning.preset.name` can name.

    Sizes are GiB (2**30 bytes). `name` is in lower case and unique; aliases and the Hugging Face id find it as well.
    The meaning of each field is told at the head of models.yaml.
    """

    name: Annotated[str, Field(max_length=200, pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]
    huggingface_id: Annotated[str, Field(max_length=200, pattern=r"^[\w.-]+/[\w.-]+$")]
    aliases: tuple[Name, ...] = ()
    weights_gib: GiB
    context_tokens: Count
    attention: Attention
    kv_bytes_per_token: Count
    quantization: str | None = None
    float16: bool = True
    disk_gib: GiB
    min_total_gpu_memory_gib: GiB | None = None
    min_gpu_memory_gib: GiB | None = None
    min_gpus: Count = 1
    distributed: bool = True
    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1)]
    adapters: bool = True
    tuning: TuningNeeds | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    license: str
    gated: bool = False
    deprecated: bool = False
    successor: Name | None = None
    readiness_timeout_minutes: Count

    @property
    def keys(self) -> tuple[str, ...]:
        """All that finds the model."""
        return (self.name, self.huggingface_id, *self.aliases)

    @property
    def readiness_timeout_s(self) -> int:
        """How long a pod may take from its start to its first answer, in seconds."""
        return self.readiness_timeout_minutes * 60

    @property
    def dtype(self) -> Literal["auto", "bfloat16"]:
        """The number format to load the weights in: quantised ones say it themselves."""
        return "auto" if self.quantization else "bfloat16"

    @model_validator(mode="after")
    def _only_the_deprecated_have_a_successor(self) -> "ModelPreset":
        if self.successor is not None and not self.deprecated:
            raise ValueError(f"successor {self.successor!r} is for deprecated models; say deprecated: true, or drop it")
        return self

    @model_validator(mode="after")
    def _one_gpu_needs_no_more_than_all(self) -> "ModelPreset":
        total_gib, gpu_gib = self.min_total_gpu_memory_gib, self.min_gpu_memory_gib
        if total_gib is not None and gpu_gib is not None and gpu_gib > total_gib:
            raise ValueError(
                f"min_gpu_memory_gib {gpu_gib:g} is more than min_total_gpu_memory_gib {total_gib:g}; correct one"
            )
        return self

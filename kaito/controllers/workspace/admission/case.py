"""Case: one Workspace to judge, with all that a verdict rests on, looked up once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

from kaito.api import keys
from kaito.catalog import Catalog, GpuSku, ModelPreset, Runtime, UnknownModel, UnknownSku
from kaito.controllers.workspace.admission.asked import Asked, AskedPreset, Json
from kaito.controllers.workspace.admission.findings import Finding
from kaito.sizing import Sizing, SizingError, fits, size

NodeProvisioner = Literal["machine", "nodeclaim", "byo"]
RUNTIMES: tuple[Runtime, ...] = ("vllm", "transformers")


@dataclass(frozen=True)
class Case:
    """One Workspace to judge.

    Attributes:
        asked: what it asks for.
        before: what it asked for before an update; None: it is new.
        catalog: models and instance types.
        node_provisioner: who brings nodes.
        default_runtime: what runs models, if the user does not say; None: what suits model and GPU.
        documents: what named ConfigMaps hold, by the path that names them; those that were found and can be read.
    """

    asked: Asked
    catalog: Catalog
    node_provisioner: NodeProvisioner
    default_runtime: Runtime | None = None
    before: Asked | None = None
    documents: Mapping[str, Json] = field(default_factory=dict)

    @property
    def makes_nodes(self) -> bool:
        """Whether nodes are made at all."""
        return self.node_provisioner != "byo"

    @cached_property
    def models(self) -> tuple[tuple[AskedPreset, ModelPreset | None], ...]:
        """The presets that are asked for, each with its model if the catalogue has it."""
        return tuple((asked, found if isinstance(found, ModelPreset) else None) for asked, found in self._found)

    @cached_property
    def meant_models(self) -> Mapping[str, str]:
        """The names that must have been meant where the catalogue has none, by the path of the preset."""
        missing = ((asked.path, found) for asked, found in self._found if isinstance(found, UnknownModel))
        return {path: error.did_you_mean for path, error in missing if error.did_you_mean}

    @property
    def sku(self) -> GpuSku | None:
        """The instance type that is asked for, if the catalogue has it."""
        return None if isinstance(self.found_sku, UnknownSku) else self.found_sku

    @cached_property
    def found_sku(self) -> GpuSku | UnknownSku | None:
        """The same, or why the catalogue has none; looked up once, since looking for near names takes milliseconds."""
        if not self.asked.instance_type:
            return None
        able = partial(fits, self.served) if self.served else None
        try:
            return self.catalog.sku(self.asked.instance_type, fits=able)
        except UnknownSku as error:
            return error

    @cached_property
    def _found(self) -> tuple[tuple[AskedPreset, ModelPreset | UnknownModel], ...]:
        return tuple((asked, _model(self.catalog, asked.name)) for asked in self.asked.presets)

    @cached_property
    def served(self) -> ModelPreset | None:
        """The model to serve, if the catalogue has it."""
        return next((model for asked, model in self.models if asked.path == "inference.preset"), None)

    @property
    def asked_runtime(self) -> Runtime | None:
        """The runtime of the annotation, if it is one."""
        given = self.asked.annotations.get(keys.RUNTIME_ANNOTATION)
        return next((runtime for runtime in RUNTIMES if runtime == given), None)

    @property
    def runtime(self) -> Runtime | None:
        """The runtime that must be, if one must."""
        return self.asked_runtime or self.default_runtime

    @cached_property
    def context_tokens(self) -> int | None:
        """The context that the named ConfigMap asks for, if it asks for one that the model can have."""
        tokens = max_model_len(self.documents.get("inference.config", {}))
        limit = self.served.context_tokens if self.served else 0
        return tokens if type(tokens) is int and 1 <= tokens <= limit else None

    @cached_property
    def sizing(self) -> Sizing | SizingError | None:
        """How the model goes onto nodes that are made, or why it does not; None: there is nothing to size."""
        model, sku = self.served, self.sku
        if model is None or sku is None or not sku.schedulable or not self.makes_nodes:
            return None
        runtime = self.runtime if self.runtime in model.runtimes else None
        try:
            return size(
                model,
                sku,
                count=self.asked.count,
                max_model_len=self.context_tokens,
                runtime=runtime,
                catalog=self.catalog,
            )
        except SizingError as error:
            return error


Check = Callable[[Case], Iterable[Finding]]
"""Looks at one matter, and says what is wrong or worth a warning."""


def max_model_len(document: Json) -> object:
    """What ``vllm.max-model-len`` of an inference config is, in either spelling; None: it has none."""
    vllm = document.get("vllm")
    if not isinstance(vllm, Mapping):
        return None
    return vllm.get("max-model-len", vllm.get("max_model_len"))


def _model(catalog: Catalog, name: str) -> ModelPreset | UnknownModel:
    try:
        return catalog.model(name)
    except UnknownModel as error:
        return error

"""Catalog: models and instance types by name, and errors that teach when a name is not known."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Self

from kaito.catalog.errors import UnknownGpu, UnknownModel, UnknownSku
from kaito.catalog.gpu_sku import Gpu, GpuSku
from kaito.catalog.model_preset import ModelPreset
from kaito.catalog.nearest import did_you_mean, nearest

fitting_named = 3
"""How many instance types that fit an error names."""


class Catalog:
    """Models and instance types. Immutable; one serves the whole process.

    Attributes:
        models: presets by name.
        skus: instance types by the name their cloud gives them.
    """

    def __init__(self, models: Iterable[ModelPreset], skus: Iterable[GpuSku]) -> None:
        self.models: Mapping[str, ModelPreset] = MappingProxyType({model.name: model for model in models})
        self.skus: Mapping[str, GpuSku] = MappingProxyType({sku.name: sku for sku in skus})
        self._model_by_key = {key.lower(): model for model in self.models.values() for key in model.keys}
        self._sku_by_key = {key.lower(): sku for sku in self.skus.values() for key in sku.keys}

    @classmethod
    def load(cls, path: Path | None = None, overlays: Iterable[tuple[str, str]] = ()) -> Self:
        """Returns the built-in catalogue, with the entries of a file and of texts of the same form laid over it.

        Files are read on the call, not on import; what the built-in ones hold is kept.

        Args:
            path: the operator's `--catalog FILE`; its entries merge over the built-in ones by name, field by field.
            overlays: further ones over that, in this order: what errors call each, and its YAML.

        Raises:
            CatalogError: one cannot be used; tells file (or what it is called), entry and field of every fault.
        """
        overlays = tuple(overlays)
        return cls(*(_built_in() if path is None and not overlays else _read(path, overlays)))

    def model(self, name: str) -> ModelPreset:
        """Returns the model of a preset name, an alias or a Hugging Face id, in any case of letters.

        Raises:
            UnknownModel: there is none; names the nearest ones.
        """
        found = self._model_by_key.get(name.lower())
        if found is None:
            raise self._unknown_model(name)
        return found

    def sku(self, name: str, *, cloud: str | None = None, fits: Callable[[GpuSku], bool] | None = None) -> GpuSku:
        """Returns the instance type of a name or an alias, in any case of letters.

        Args:
            name: as the cloud writes it, such as `Standard_NC6s_v3`.
            cloud: takes and suggests types of this cloud only (`azure`, `aws`, `arc`, …); None: of any.
            fits: whether a type can serve the model in question (see `kaito.sizing.fits`); used for suggestions only.

        Raises:
            UnknownSku: there is none; names the nearest ones and, given `fits`, the smallest ones that fit, of one
                cloud: where none is given, of that of the nearest name.
        """
        found = self._sku_by_key.get(name.lower())
        if found is not None and cloud in (None, found.cloud):
            return found
        of_cloud = [sku.name for sku in self.skus.values() if sku.schedulable and cloud in (None, sku.cloud)]
        near = nearest(name, of_cloud)
        # Nobody can choose between the types of two clouds.
        of = cloud or next((self.skus[each].cloud for each in near), None)
        fitting = [sku.name for sku in self.skus_of(of) if fits is not None and fits(sku)]
        raise UnknownSku(
            name,
            nearest=near,
            did_you_mean=did_you_mean(name, of_cloud),
            fitting=tuple(fitting[:fitting_named]),
            reason=None if found is None else f"is one of {found.cloud}, not of {cloud}",
        )

    def gpu(self, name: str) -> Gpu:
        """Returns the GPU of a name of the catalogue's `gpus`, in any case of letters, if an instance type carries it.

        Raises:
            UnknownGpu: there is none; names all.
        """
        gpus = {sku.gpu.name: sku.gpu for sku in self.skus.values() if sku.schedulable}
        found = {key.lower(): gpu for key, gpu in gpus.items()}.get(name.lower())
        if found is None:
            raise UnknownGpu(name, known=tuple(sorted(gpus)), did_you_mean=did_you_mean(name, gpus))
        return found

    def skus_of(self, cloud: str | None) -> tuple[GpuSku, ...]:
        """Returns the instance types of a cloud (None: of all) that can be had and scheduled on, smallest first."""
        usable = (sku for sku in self.skus.values() if sku.schedulable and not sku.retired)
        return tuple(sorted((sku for sku in usable if cloud in (None, sku.cloud)), key=_size))

    def _unknown_model(self, name: str) -> UnknownModel:
        name_by_id = {model.huggingface_id: model.name for model in self.models.values() if not model.deprecated}
        if "/" in name:
            near = tuple(name_by_id[huggingface_id] for huggingface_id in nearest(name, name_by_id))
            return UnknownModel(name, nearest=near, did_you_mean=did_you_mean(name, name_by_id))
        # Nobody should be led to what is refused for new Workspaces.
        names = [key for model in self.models.values() if not model.deprecated for key in (model.name, *model.aliases)]
        return UnknownModel(name, nearest=nearest(name, name_by_id.values()), did_you_mean=did_you_mean(name, names))


def _size(sku: GpuSku) -> tuple[float, int, int, float, str]:
    return sku.total_gpu_memory_gib, sku.gpu_count, sku.vcpus or 0, sku.memory_gib or 0.0, sku.name


@cache
def _built_in() -> tuple[tuple[ModelPreset, ...], tuple[GpuSku, ...]]:
    return _read(None, ())


def _read(path: Path | None, overlays: Iterable[tuple[str, str]]) -> tuple[tuple[ModelPreset, ...], tuple[GpuSku, ...]]:
    # Here, since importing a YAML parser costs 40 ms that a program without a catalogue need not pay.
    from kaito.catalog.loader import read

    return read(path, overlays)

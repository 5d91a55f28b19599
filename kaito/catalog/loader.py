"""From catalogue files to validated entries: the built-in files, and one that is laid over them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from kaito.catalog.document import Document
from kaito.catalog.entry import Entry
from kaito.catalog.errors import CatalogError
from kaito.catalog.gpu_sku import Gpu, GpuSku
from kaito.catalog.model_preset import ModelPreset
from kaito.catalog.nearest import did_you_mean, nearest

E = TypeVar("E", bound=Entry)

built_in_files = tuple(Path(__file__).with_name(name) for name in ("models.yaml", "gpu_skus.yaml"))


def read(
    path: Path | None = None, overlays: Iterable[tuple[str, str]] = ()
) -> tuple[tuple[ModelPreset, ...], tuple[GpuSku, ...]]:
    """Reads the built-in files and, over them, the given file and then the given texts, each with its name.

    Raises:
        CatalogError: tells file, entry and field of every fault, not of the first one only.
    """
    document = Document()
    for file in (*built_in_files, *(() if path is None else (path,))):
        document.overlay_file(file)
    for origin, text in overlays:
        document.overlay(origin, text)
    return _validate(document)


def _validate(document: Document) -> tuple[tuple[ModelPreset, ...], tuple[GpuSku, ...]]:
    faults: list[str] = []
    sources = _texts(document, faults)
    gpus = _entries(Gpu, "gpus", document, sources, faults)
    _resolve_gpus(document, {gpu.name: gpu for gpu in gpus}, faults)
    models = _entries(ModelPreset, "models", document, sources, faults)
    skus = _entries(GpuSku, "skus", document, sources, faults)
    faults += _successor_faults(document, models)
    faults += _clashes(document, "models", models)
    faults += _clashes(document, "skus", skus)
    if faults:
        raise CatalogError(faults)
    return models, skus


def _texts(document: Document, faults: list[str]) -> Mapping[str, str]:
    texts: dict[str, str] = {}
    for name, text in document.entries["sources"].items():
        if isinstance(text, str):
            texts[name] = text
        else:
            faults.append(f"{document.place('sources', name)}: must be text that says where figures are from")
    return texts


def _entries(
    kind: type[E], section: str, document: Document, sources: Mapping[str, str], faults: list[str]
) -> tuple[E, ...]:
    found: list[E] = []
    for name, raw in document.entries[section].items():
        place = document.place(section, name)
        if not isinstance(raw, dict):
            faults.append(f"{place}: must be a mapping of fields")
            continue
        try:
            found.append(kind.model_validate({**raw, "name": name, **_spelled_out(raw, sources)}))
        except ValidationError as error:
            faults += [_fault(place, location, message) for location, message in _errors_of(error)]
    return tuple(found)


def _spelled_out(raw: Mapping[str, object], sources: Mapping[str, str]) -> dict[str, object]:
    keys = raw.get("source")
    if not isinstance(keys, list):
        return {}
    return {"source": [sources.get(key, key) if isinstance(key, str) else key for key in keys]}


def _errors_of(error: ValidationError) -> Iterable[tuple[str, str]]:
    for fault in error.errors(include_url=False):
        given = "" if fault["type"] == "missing" or isinstance(fault["input"], dict) else f" (given {fault['input']!r})"
        yield ".".join(str(part) for part in fault["loc"]), fault["msg"].removeprefix("Value error, ") + given


def _fault(place: str, location: str, message: str) -> str:
    return f"{place}.{location}: {message}" if location else f"{place}: {message}"


def _resolve_gpus(document: Document, gpus: Mapping[str, Gpu], faults: list[str]) -> None:
    skus = document.entries["skus"]
    for name, raw in list(skus.items()):
        key = raw.get("gpu") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or key is None:
            continue
        if key in gpus:
            skus[name] = {**raw, "gpu": gpus[key]}
            continue
        # Told once: here, or with the GPU when that is itself at fault.
        del skus[name]
        if key not in document.entries["gpus"]:
            choices = ", ".join(nearest(str(key), gpus))
            faults.append(f"{document.place('skus', name)}.gpu: {key!r} is none of gpus; nearest: {choices}")


def _clashes(document: Document, section: str, entries: Iterable[ModelPreset | GpuSku]) -> list[str]:
    owner: dict[str, str] = {}
    faults = []
    for entry in entries:
        for key in dict.fromkeys(key.lower() for key in entry.keys):
            if key in owner:
                place = document.place(section, entry.name)
                faults.append(f"{place}: {key!r} finds {section}.{owner[key]} already; rename one, or merge them")
            owner[key] = entry.name
    return faults


def _successor_faults(document: Document, models: Iterable[ModelPreset]) -> Iterable[str]:
    deprecated = {model.name: model.deprecated for model in models}
    for model in models:
        name = model.successor
        place = f"{document.place('models', model.name)}.successor"
        if name is None:
            continue
        if deprecated.get(name):
            yield f"{place}: {name!r} is deprecated itself; name one that new Workspaces may use"
        elif name not in document.entries["models"]:  # one that is there and at fault was told already
            meant = did_you_mean(name, deprecated)
            yield f"{place}: {name!r} is none of models" + (f"; did you mean {meant}?" if meant else "")

"""Reads catalogues: YAML to sections of raw entries, one text laid over another; errors name the place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaito.catalog.errors import CatalogError
from kaito.catalog.yaml_text import YamlFault, parse_yaml

Raw = dict[str, object]

sections = ("sources", "gpus", "models", "skus")


@dataclass
class Document:
    """Raw entries by section and name, and the text that had the last word on each."""

    entries: dict[str, dict[str, object]] = field(default_factory=lambda: {section: {} for section in sections})
    origins: dict[tuple[str, str], str] = field(default_factory=dict)

    def place(self, section: str, name: str) -> str:
        """Names an entry and the text to look for it in: `FILE: section.name`."""
        return f"{self.origins[section, name]}: {section}.{name}"

    def overlay_file(self, path: Path) -> None:
        """Lays a file over what is here, as `overlay` does.

        Raises:
            CatalogError: it cannot be read, or is no catalogue.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogError([f"{path}: cannot be read ({error}); give --catalog a YAML file"]) from error
        self.overlay(str(path), text)

    def overlay(self, origin: str, text: str) -> None:
        """Lays a text over what is here: entries merge by name, field by field; lists and plain values replace.

        Args:
            origin: what errors call it.
            text: YAML.

        Raises:
            CatalogError: it is not YAML, or has sections that a catalogue has not.
        """
        for section, raw_entries in _parsed(origin, text).items():
            mine = self.entries[section]
            for name, raw in raw_entries.items():
                mine[name] = _merged(mine.get(name), raw)
                self.origins[section, name] = origin


def _parsed(origin: str, text: str) -> dict[str, Raw]:
    try:
        document = parse_yaml(text)
    except YamlFault as error:
        raise CatalogError([f"{origin}: not YAML: {error}"]) from error
    return _sections_of(origin, {} if document is None else document)


def _sections_of(origin: str, document: object) -> dict[str, Raw]:
    if not isinstance(document, dict):
        raise CatalogError([f"{origin}: must be a mapping with any of {', '.join(sections)}"])
    faults = [
        f"{origin}: {section}: no section of a catalogue; choose among {', '.join(sections)}"
        for section in document
        if section not in sections
    ]
    faults += [fault for section, entries in document.items() for fault in _shape_faults(origin, section, entries)]
    if faults:
        raise CatalogError(faults)
    return {section: entries or {} for section, entries in document.items()}


def _shape_faults(origin: str, section: object, entries: object) -> list[str]:
    if entries is None:
        return []
    if not isinstance(entries, dict):
        return [f"{origin}: {section}: must be a mapping from name to entry"]
    return [
        f"{origin}: {section}.{name}: a name must be text; put it in quotes"
        for name in entries
        if not isinstance(name, str)
    ]


def _merged(below: object, above: object) -> object:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}

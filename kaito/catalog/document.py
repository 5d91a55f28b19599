"""Reads catalogues: YAML to sections of raw entries, one text laid over another; errors name the place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from kaito.catalog.errors import CatalogError

try:
    from yaml import CSafeLoader as FastLoader  # parses the built-in files in 15 ms; the pure one takes 200
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as FastLoader  # type: ignore[assignment]

Raw = dict[str, object]

deepest = 20
"""Levels of nesting that a file may have; an entry needs 4."""

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
        _refuse_deep(text)
        document = yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        raise CatalogError([f"{origin}: not YAML: {' '.join(str(error).split())}"]) from error
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


def _refuse_deep(text: str) -> None:
    """Ends a file of brackets in brackets in brackets here: libyaml's composer recurses, and would end the process."""
    depth = 0
    for event in yaml.parse(text, FastLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > deepest:
            raise yaml.YAMLError(f"more than {deepest} levels deep {event.start_mark}")


class _UniqueKeyLoader(FastLoader):
    """Refuses a key that is there twice: YAML would silently keep the last one."""


def _construct_unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[object, object]:
    seen: set[str] = set()
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _construct_unique_mapping)

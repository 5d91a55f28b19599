"""Fields: values taken apart into paths, as server-side apply sees them (structured-merge-diff, in small).

A path is a tuple of the element names of FieldsV1: ``f:spec`` for a field, ``k:{"name":"web"}`` for an item of a keyed
list, ``v:"x"`` for a member of a set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from kaito.testing.fake_api.failures import Json
from kaito.testing.fake_api.shapes import KEY_DEFAULTS, Names, Shape

Path: TypeAlias = tuple[str, ...]
FieldSet: TypeAlias = frozenset[Path]

_ITEM = object()


def leaves(value: Json, shape: Shape) -> dict[Path, Any]:
    """Takes a value apart: scalars, atomic values, empty maps, and the items of merged lists, each under its path."""
    found: dict[Path, Any] = {}
    _collect(value, (), (), shape, found)
    return found


def merge(live: Any, config: Any, shape: Shape, names: Names = ()) -> Any:
    """Lays a value over another: maps field by field, keyed lists item by item, all else replaced."""
    if isinstance(live, dict) and isinstance(config, dict) and not shape.is_atomic(names):
        merged = dict(live)
        for name, value in config.items():
            merged[name] = merge(live.get(name), value, shape, (*names, name))
        return merged
    if isinstance(live, list) and isinstance(config, list):
        keys = shape.list_keys(names)
        if keys is not None:
            return _merge_items(_keyed(live, keys), _keyed(config, keys), shape, (*names, "*"))
    return config


def remove(value: Json, paths: Iterable[Path], shape: Shape) -> Json:
    """Returns the value without what stands at these paths; deeper paths of a removed one are ignored."""
    for path in paths:
        value = _without(value, path, shape, ())
    return value


def closed(paths: Iterable[Path]) -> FieldSet:
    """The paths with all that lead to them."""
    return frozenset(path[:length] for path in paths for length in range(1, len(path) + 1))


def encode_fields(paths: Iterable[Path]) -> Json:
    """FieldsV1 of a set of paths."""
    members = sorted(paths)
    root: Json = {}
    for path in members:
        _descend(root, path)
    for path in members:
        node = _descend(root, path)
        if node:
            node["."] = {}
    return root


def decode_fields(fields: Json) -> FieldSet:
    """The set of paths of a FieldsV1."""
    return frozenset(_members(fields, ()))


def dotted(path: Path) -> str:
    """A path as error messages show it: ``.spec.containers[name="web"].image``."""
    return "".join(_dotted_element(element) for element in path)


def _collect(value: Any, path: Path, names: Names, shape: Shape, found: dict[Path, Any]) -> None:
    keys = shape.list_keys(names) if isinstance(value, list) and names else None
    if isinstance(value, dict) and value and not shape.is_atomic(names):
        for name, item in value.items():
            _collect(item, (*path, f"f:{name}"), (*names, name), shape, found)
    elif isinstance(value, list) and keys is not None:
        for element, item in _keyed(value, keys).items():
            found[*path, element] = _ITEM
            if keys:
                _collect(item, (*path, element), (*names, "*"), shape, found)
    else:
        found[path] = value


def _keyed(items: list[Any], keys: Names) -> dict[str, Any]:
    return {_element(item, keys): item for item in items}


def _element(item: Any, keys: Names) -> str:
    if not keys or not isinstance(item, dict):
        return "v:" + _compact(item)
    chosen = {key: item.get(key, KEY_DEFAULTS.get(key)) for key in sorted(keys)}
    return "k:" + _compact({key: value for key, value in chosen.items() if value is not None})


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _merge_items(live: dict[str, Any], config: dict[str, Any], shape: Shape, names: Names) -> list[Any]:
    # The applied order wins; what only the live list has stays before the item that it stood before.
    merged: dict[str, Any] = {}
    mine = iter(config)
    for element, item in live.items():
        if element not in config:
            merged[element] = item
        while element in config and element not in merged:
            wanted = next(mine)
            merged[wanted] = merge(live.get(wanted), config[wanted], shape, names)
    for wanted in mine:
        merged[wanted] = merge(live.get(wanted), config[wanted], shape, names)
    return list(merged.values())


def _without(value: Any, path: Path, shape: Shape, names: Names) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(value, dict) and head.startswith("f:"):
        name = head[2:]
        if name not in value:
            return value
        if rest:
            return {**value, name: _without(value[name], rest, shape, (*names, name))}
        return {key: item for key, item in value.items() if key != name}
    keys = shape.list_keys(names) if isinstance(value, list) and names else None
    if keys is None:
        return value
    items = _keyed(value, keys)
    if rest and head in items:
        items[head] = _without(items[head], rest, shape, (*names, "*"))
    elif not rest:
        items.pop(head, None)
    return list(items.values())


def _descend(node: Json, path: Path) -> Json:
    for element in path:
        node = node.setdefault(element, {})
    return node


def _members(node: Json, path: Path) -> Iterator[Path]:
    if path and (not node or "." in node):
        yield path
    for element, child in node.items():
        if element != ".":
            yield from _members(child, (*path, element))


def _dotted_element(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        return "[" + ",".join(f"{key}={_compact(value)}" for key, value in json.loads(rest).items()) + "]"
    return f"[={rest}]"

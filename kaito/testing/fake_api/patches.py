"""Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and strategic merge patch as far as operators use it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kaito.testing.fake_api.failures import bad_request, unprocessable
from kaito.testing.fake_api.shapes import Names, Shape

# Strategic patches merge ports by one key only, where server-side apply takes two.
_STRATEGIC_KEYS: Mapping[Names, str] = {("containerPort", "protocol"): "containerPort", ("port", "protocol"): "port"}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902.

    Raises:
        Failure: 400, it is no list of operations; 422, a path is not there or a test failed.
    """
    if not isinstance(operations, list):
        raise bad_request("json patch: expected a list of operations")
    document = copy.deepcopy(target)
    for operation in operations:
        document = _operate(document, operation)
    return document


def strategic_merge_patch(target: Any, patch: Any, shape: Shape, names: Names = ()) -> Any:
    """A merge patch whose lists merge by key; with ``$patch: delete|replace`` and ``$deleteFromPrimitiveList``."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        _merge_field(merged, name, value, shape, names)
    return merged


def _merge_field(merged: dict[str, Any], name: str, value: Any, shape: Shape, names: Names) -> None:
    directive, _, field = name.partition("/")
    if directive == "$deleteFromPrimitiveList":
        merged[field] = [item for item in merged.get(field, []) if item not in value]
    elif name.startswith("$"):
        return  # $setElementOrder and $retainKeys: orders and hints, kept out of the stored object
    elif value is None:
        merged.pop(name, None)
    elif isinstance(value, list):
        merged[name] = _merge_list(merged.get(name) or [], value, shape, (*names, name))
    else:
        merged[name] = strategic_merge_patch(merged.get(name), value, shape, (*names, name))


def _merge_list(live: list[Any], patch: list[Any], shape: Shape, names: Names) -> list[Any]:
    keys = shape.list_keys(names)
    if keys is None or {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    if not keys:
        return live + [item for item in patch if item not in live]
    key = _STRATEGIC_KEYS.get(keys, keys[0])
    items = {item.get(key): item for item in live}
    added = {}
    for item in patch:
        name = item.get(key)
        if item.get("$patch") == "delete":
            items.pop(name, None)
        elif name in items:
            items[name] = strategic_merge_patch(items[name], item, shape, (*names, "*"))
        else:
            added[name] = strategic_merge_patch({}, item, shape, (*names, "*"))
    # A real server puts new items first, unless the patch says otherwise.
    return [*added.values(), *items.values()]


def _operate(document: Any, operation: Any) -> Any:
    try:
        kind, path = operation["op"], _pointer(operation["path"])
        match kind:
            case "add":
                return _put(document, path, operation["value"], insert=True)
            case "replace":
                _read(document, path)
                return _put(document, path, operation["value"], insert=False)
            case "remove":
                return _drop(document, path)
            case "test":
                return _test(document, path, operation["value"])
            case "move" | "copy":
                return _transfer(document, _pointer(operation["from"]), path, move=kind == "move")
            case _:
                raise bad_request(f"json patch: unknown operation {kind!r}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise unprocessable() from error


def _transfer(document: Any, source: list[str], path: list[str], *, move: bool) -> Any:
    value = copy.deepcopy(_read(document, source))
    return _put(_drop(document, source) if move else document, path, value, insert=True)


def _test(document: Any, path: list[str], expected: Any) -> Any:
    if _read(document, path) != expected:
        raise ValueError("test failed")
    return document


def _pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(path)
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _read(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _put(document: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent, last = _read(document, path[:-1]), path[-1]
    if not isinstance(parent, list):
        parent[last] = value
    elif last == "-":
        parent.append(value)
    elif insert:
        _check_index(parent, int(last))
        parent.insert(int(last), value)
    else:
        parent[int(last)] = value
    return document


def _check_index(items: list[Any], index: int) -> None:
    if not 0 <= index <= len(items):
        raise IndexError(index)


def _drop(document: Any, path: list[str]) -> Any:
    parent, last = _read(document, path[:-1]), path[-1]
    del parent[int(last) if isinstance(parent, list) else last]
    return document

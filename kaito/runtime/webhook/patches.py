"""Patches of defaulters: from what a draft changed to operations on the raw object, so that nothing else is touched.

A class may not know every field of an object, and may write a value differently than it read it (1Gi, 1024Mi; a time
with or without fractions). What is compared is therefore the object as the class writes it, before and after; and only
what differs between these two is carried over to the bytes that came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kaito.kube.frozen import thaw
from kaito.kube.model import KubeModel
from kaito.kube.unstructured import UnstructuredObject

Json = Any


def difference(old: Json, new: Json) -> list[dict[str, Json]]:
    """The JSON patch (RFC 6902) from one document to another: add, remove and replace, each as deep as may be.

    Args:
        old: decoded JSON.
        new: the same; 1, 1.0 and true are three different values.
    """
    return list(_difference("", old, new))


def carried_over(raw: Json, before: KubeModel, after: KubeModel) -> Json:
    """The raw document with what changed between two models of it; order and unknown fields as they were.

    Args:
        raw: the document, which is left alone.
        before: the model of it.
        after: the draft that somebody wrote to. Unknown fields below a part that was replaced by one of the same
            class are kept, too.
    """
    old, new = before.to_dict(), after.to_dict()
    _keep_unknown(before, after, new)
    return _carry(raw, old, new)


def _keep_unknown(before: object, after: object, written: Json) -> None:
    if isinstance(before, tuple) and isinstance(after, tuple) and isinstance(written, list):
        if len(before) == len(after) == len(written):
            for old, new, item in zip(before, after, written, strict=True):
                _keep_unknown(old, new, item)
        return
    if not isinstance(before, KubeModel) or not isinstance(after, KubeModel) or not isinstance(written, dict):
        return
    if isinstance(before, UnstructuredObject):
        return  # all is known
    for name, value in (before.__pydantic_extra__ or {}).items():
        if name not in written and value is not None:
            written[name] = thaw(value)
    for name, field in type(before).model_fields.items():
        wire_name = field.alias or name
        _keep_unknown(getattr(before, name), getattr(after, name, None), written.get(wire_name))


def _carry(raw: Json, old: Json, new: Json) -> Json:
    if _same(old, new):
        return raw
    if isinstance(raw, dict) and isinstance(old, dict) and isinstance(new, dict):
        kept = {name: value for name, value in raw.items() if name in new or name not in old}
        for name, value in new.items():
            if name in raw and name in old:
                kept[name] = _carry(raw[name], old[name], value)
            elif name not in old or not _same(old[name], value):
                kept[name] = value
        return kept
    if isinstance(raw, list) and isinstance(old, list) and isinstance(new, list) and len(raw) == len(old):
        head, tail = _common(old, new)
        middle = new[head : len(new) - tail]
        if len(old) == len(new):
            middle = [_carry(raw[head + i], old[head + i], value) for i, value in enumerate(middle)]
        return [*raw[:head], *middle, *raw[len(raw) - tail :]]
    return new


def _difference(path: str, old: Json, new: Json) -> Iterator[dict[str, Json]]:
    if _same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old:
            if name not in new:
                yield {"op": "remove", "path": _below(path, name)}
        for name, value in new.items():
            if name in old:
                yield from _difference(_below(path, name), old[name], value)
            else:
                yield {"op": "add", "path": _below(path, name), "value": value}
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_difference(path, old, new)
    else:
        yield {"op": "replace", "path": path, "value": new}


def _list_difference(path: str, old: list[Json], new: list[Json]) -> Iterator[dict[str, Json]]:
    """What is alike at both ends stays; between, items change in place, and what is too many goes."""
    head, tail = _common(old, new)
    gone, come = old[head : len(old) - tail], new[head : len(new) - tail]
    both = min(len(gone), len(come))
    for index in range(both):
        yield from _difference(f"{path}/{head + index}", gone[index], come[index])
    for index in reversed(range(both, len(gone))):
        yield {"op": "remove", "path": f"{path}/{head + index}"}
    for index in range(both, len(come)):
        yield {"op": "add", "path": f"{path}/{head + index}", "value": come[index]}


def _common(old: list[Json], new: list[Json]) -> tuple[int, int]:
    """How many items are alike at the beginning, and how many of the rest at the end."""
    shorter = min(len(old), len(new))
    head = 0
    while head < shorter and _same(old[head], new[head]):
        head += 1
    tail = 0
    while tail < shorter - head and _same(old[-1 - tail], new[-1 - tail]):
        tail += 1
    return head, tail


def _same(old: Json, new: Json) -> bool:
    """Equality of JSON: Python holds 1, 1.0 and True for the same."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(value, new[name]) for name, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)


def _below(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"

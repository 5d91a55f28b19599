"""DecodedObjects: recent models, shared by identity and bounded in number."""

from __future__ import annotations

import json

import pytest

from kaito.informers import Entry
from kaito.informers.decoded import DecodedObjects
from kaito.informers.entry import EntryReader
from kaito.kube.core_v1 import ConfigMap, Namespace


def entry(rv: int, uid: str = "u", **data: object) -> Entry:
    raw = json.dumps({"metadata": {"name": "a", "uid": uid, "resourceVersion": str(rv)}, "data": data}).encode()
    return EntryReader().read(raw, {})[1]


def test_decoded_objects_are_shared_by_uid_and_version_and_bounded() -> None:
    decoded = DecodedObjects(limit=2)
    entries = [entry(rv) for rv in (1, 2, 3)]
    first = decoded.decode(ConfigMap, entries[0])
    assert decoded.decode(ConfigMap, entries[0]) is first
    decoded.decode(ConfigMap, entries[1])
    assert decoded.decode(ConfigMap, entries[0]) is first  # used again, so the other one goes
    decoded.decode(ConfigMap, entries[2])
    assert decoded.decode(ConfigMap, entries[0]) is first
    assert len(decoded._models) == 2


def test_the_same_version_of_another_uid_or_class_is_another_object() -> None:
    decoded = DecodedObjects()
    one, other = entry(1, "u1", x="1"), entry(1, "u2", x="2")
    assert decoded.decode(ConfigMap, one).data == {"x": "1"}
    assert decoded.decode(ConfigMap, other).data == {"x": "2"}
    assert isinstance(decoded.decode(Namespace, one), Namespace)


def test_objects_that_do_not_decode_are_not_remembered() -> None:
    decoded = DecodedObjects()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"data\.x"):
            decoded.decode(ConfigMap, entry(1, x={}))
    assert not decoded._models

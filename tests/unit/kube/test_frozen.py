"""kaito.kube.frozen: what is read cannot be changed, and is still a dict."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.kube import FrozenDict
from kaito.kube.frozen import freeze, thaw

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("a", 2),
        lambda d: d.__delitem__("a"),
        lambda d: d.clear(),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.setdefault("b", 1),
        lambda d: d.update(b=1),
        lambda d: d.__ior__({"b": 1}),
    ],
)
def test_every_way_to_change_a_frozen_dict_is_refused(change: Callable[[FrozenDict[str, int]], object]) -> None:
    frozen = FrozenDict({"a": 1})
    with pytest.raises(TypeError, match=r"edit\(\)"):
        change(frozen)
    assert frozen == {"a": 1}


def test_a_frozen_dict_is_a_dict_to_everyone_who_reads() -> None:
    frozen = FrozenDict({"a": 1})
    assert json.dumps(frozen) == '{"a": 1}'
    assert frozen | {"b": 2} == {"a": 1, "b": 2}
    assert hash(frozen) == hash(FrozenDict({"a": 1}))
    assert copy.deepcopy(frozen) is frozen
    assert pickle.loads(pickle.dumps(frozen)) == frozen


@given(JSON)
def test_thawing_what_was_frozen_gives_it_back(value: object) -> None:
    assert thaw(freeze(value)) == value


@given(JSON)
def test_frozen_json_has_no_list_and_no_plain_dict_in_it(value: object) -> None:
    def check(node: object) -> None:
        assert not isinstance(node, list)
        if isinstance(node, dict):
            assert isinstance(node, FrozenDict)
            for item in node.values():
                check(item)
        if isinstance(node, tuple):
            for item in node:
                check(item)

    check(freeze(value))


def test_thawing_makes_a_copy_to_write_in() -> None:
    frozen = freeze({"a": {"b": [1]}})
    thawed = thaw(frozen)
    thawed["a"]["b"].append(2)
    assert frozen == {"a": {"b": (1,)}}

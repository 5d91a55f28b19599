"""Workspaces with anything at all in any place of a good one."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from tests.operating.bad_workspaces import BY_RULES, BY_WEBHOOK, good_workspaces

Path = tuple[Any, ...]

_GOOD = good_workspaces(BY_RULES) | good_workspaces(BY_WEBHOOK)
_TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["phi-4", "Standard_NC6s_v3", "x" * 5000, "\x00", "a/b", ""]))
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXTS)
JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def _paths(node: Any, at: Path = ()) -> list[Path]:
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(path for key, value in below for path in _paths(value, (*at, key)))]


PLACES: list[tuple[str, Path]] = [(name, path) for name, base in _GOOD.items() for path in _paths(base) if path]


def spoiled(name: str, path: Path, value: Any) -> dict[str, Any]:
    """Returns a good manifest with something else in one place."""
    manifest = copy.deepcopy(_GOOD[name])
    node: Any = manifest
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return manifest

"""Rules of Workspaces in Python beside the same ones in CEL: a real API server, without webhook, says the same of each.

Where the two part, on purpose: the API server asks no rule of an object whose schema is broken, so that ours may then
tell more, all of it words of rules.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kaito.api import kaito_v1alpha1, kaito_v1beta1
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.crd import resource_schema
from kaito.kube.schema_markers import VALIDATIONS
from kaito.kube.validation import faults
from tests.operating.bad_workspaces import BY_RULES, bad_workspaces, good_workspaces
from tests.operating.cluster import install_crds
from tests.operating.fuzzed_kinds import WORKSPACE
from tests.operating.schema_strategies import objects
from tests.operating.verdicts import server_says, verdict_of

Json = dict[str, Any]
ALIKE = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # to make a failing example smaller takes minutes here
    suppress_health_check=[*HealthCheck],
)
KINDS = {kind.resource_type.api_version: kind for kind in (kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace)}
SCHEMA = resource_schema(kaito_v1beta1.Workspace)
GOOD = tuple(good | {"apiVersion": version} for good in good_workspaces(BY_RULES).values() for version in KINDS)
MADE = objects(SCHEMA, WORKSPACE).map(
    lambda made: {"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "made"}, **made}
)
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 1000, 1001, 2**31, 2**63, 1.5, 2.0, "", "2", "a", " ", "a b", "-a", "A", "a.b", "a/b",
    "a/b/c", "1.01", ".5", "0.", "\u00e4", "a\n", "NAME_HERE", "x" * 64, "x" * 300, "http://10.0.0.1/", "https://example.com/x",
    "http://[::1]", "mig", "accelerator", "In", "Exists", "qLORA", "private", [], {}, [None], ["a", "a"], {"a": 1},
    {"kaito.sh/workspace": "w"}, {"name": "a"}, {"b": "c"},
)  # fmt: skip


def rules(schema: Any) -> Iterator[str]:
    """The words of all rules."""
    if isinstance(schema, Mapping):
        for rule in schema.get(VALIDATIONS, ()):
            yield rule.message
        for name, below in schema.items():
            if name != VALIDATIONS:
                yield from rules(below)


MESSAGES = tuple(set(rules(SCHEMA)))


def places(value: Any, schema: Mapping[str, Any]) -> Iterator[tuple[Any, str | int, Mapping[str, Any]]]:
    """Yields each field, key and item that a manifest has or could have: where it is, its name and its schema."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        others = schema.get("additionalProperties")
        names = {*known, *(value if isinstance(others, Mapping) else ())} - {"apiVersion", "kind", "metadata", "status"}
        for name in sorted(names):
            below: Any = known.get(name) or others
            yield value, name, below
            yield from places(value.get(name), below)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield value, index, schema["items"]
            yield from places(item, schema["items"])


@st.composite
def spoiled(draw: st.DrawFn, good: Json) -> Json:
    """A manifest in which one to three places are taken out, doubled, made odd, or replaced as the schema allows."""
    made = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        holder, name, schema = draw(st.sampled_from(list(places(made, SCHEMA))))
        has_it = isinstance(holder, list) or name in holder
        match draw(st.sampled_from(["drop", "double", "odd", "odd", "allowed"])):
            case "drop" if has_it:
                del holder[name]
            case "double" if has_it:
                twin = copy.deepcopy(holder[name])
                holder.append(twin) if isinstance(holder, list) else holder.update({f"{name}2": twin})
            case "allowed":
                holder[name] = draw(objects(schema))
            case _:
                holder[name] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    await install_crds(control_plane)
    yield


def collection(manifest: Json, namespace: str) -> str:
    return KINDS[manifest["apiVersion"]].resource_type.path(namespace)


def difference(plane: ControlPlane, method: str, path: str, obj: Json, old: Json | None = None) -> tuple[str, bool]:
    """What the two say differently, empty when nothing; and whether they refuse."""
    there = server_says(plane, method, path, obj)
    here = verdict_of(faults(KINDS[obj["apiVersion"]], obj, old))
    more = {field for field, message in here.messages if message.endswith(MESSAGES)} if there.is_partial else set()
    differs = here.fields - more != there.fields - more or not here.fields >= there.fields
    if not differs and not there.is_partial:
        differs = not here.reasons <= there.reasons
    said = f"{method} {obj}\n  here: {here.messages}\n  there: {there.messages}, partial: {there.is_partial}"
    return said if differs else "", bool(there.fields)


def test_each_bad_manifest_of_the_table_is_judged_alike(control_plane: ControlPlane, namespace: str) -> None:
    told, refusals, rows = [], 0, bad_workspaces(BY_RULES)
    for at, row in enumerate(rows):
        path, old, bad = collection(row.good, namespace), None, row.bad
        if row.verb == "update":
            name = f"{row.good['metadata']['name']}-{at}"
            old = control_plane.request("POST", path, row.good | {"metadata": {"name": name}})
            path, bad = f"{path}/{name}", row.bad | {"metadata": old["metadata"]}
        differs, is_refused = difference(control_plane, "PUT" if old else "POST", path, bad, old)
        told.append(differs)
        refusals += is_refused
    assert "\n".join(filter(None, told)) == ""
    assert refusals == len(rows)


def test_spoiled_manifests_are_judged_alike_when_they_are_new(control_plane: ControlPlane) -> None:
    told: list[str] = []
    refusals: list[bool] = []

    @ALIKE
    @given((st.sampled_from(GOOD) | MADE).flatmap(spoiled))
    def check(bad: Json) -> None:
        differs, is_refused = difference(control_plane, "POST", collection(bad, "default"), bad)
        told.append(differs)
        refusals.append(is_refused)

    check()
    assert "\n".join(filter(None, told)) == ""
    assert 20 <= sum(refusals) <= len(refusals) - 5


def test_spoiled_manifests_are_judged_alike_as_updates(control_plane: ControlPlane, namespace: str) -> None:
    stored: list[Json] = [control_plane.request("POST", collection(good, namespace), good) for good in GOOD[::2]]
    told: list[str] = []
    refusals: list[bool] = []

    @ALIKE
    @given(st.sampled_from(stored).flatmap(lambda old: st.tuples(st.just(old), spoiled(old))))
    def check(pair: tuple[Json, Json]) -> None:
        old, new = pair
        path = f"{collection(old, namespace)}/{old['metadata']['name']}"
        differs, is_refused = difference(control_plane, "PUT", path, new, old)
        told.append(differs)
        refusals.append(is_refused)

    check()
    assert "\n".join(filter(None, told)) == ""
    assert 20 <= sum(refusals) <= len(refusals) - 5

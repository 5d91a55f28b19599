"""Tables of Workspaces that must be refused: one defect each, as changes to a good manifest; read from YAML.

A table has two parts. `bases` are good manifests by name. `rows` are the defects::

    - name: a node count is at least one      # a sentence, unique in its table
      base: inference                         # which good manifest it spoils
      change: {resource.count: 0}             # by path: the new value of a field; null takes the field out
      verb: create                            # or update: the base is there, and the change comes later
      field: resource.count                   # the path that the refusal blames
      says: greater than or equal to 1        # a part of what it says there

Further keys: `before` (changes as above, made to the base before it is created; of use for updates) and `given` (what
else must be so for the defect to be one, for the test that runs the table to arrange; a table says what it means).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from kaito.api import kaito_v1alpha1, kaito_v1beta1

TABLES = Path(__file__).parents[1] / "integration" / "admission"
BY_RULES = TABLES / "bad_by_rules.yaml"
BY_WEBHOOK = TABLES / "bad_by_webhook.yaml"
VERSIONS = tuple(
    workspace.resource_type.api_version for workspace in (kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace)
)


@dataclass(frozen=True)
class BadWorkspace:
    """One row.

    Attributes:
        name: what is wrong, as a sentence.
        verb: which verb is refused.
        field: the path that the refusal blames.
        says: a part of what it says there.
        good: the manifest that is there before an update.
        bad: the manifest that is refused.
        given: what else must be so.
    """

    name: str
    verb: Literal["create", "update"]
    field: str
    says: str
    good: dict[str, Any]
    bad: dict[str, Any]
    given: Mapping[str, Any]


def bad_workspaces(table: Path) -> tuple[BadWorkspace, ...]:
    """Returns the rows of a table, the served versions in turn.

    Raises:
        ValueError: a row is not of the form above, or two have one name.
    """
    document = yaml.safe_load(table.read_text(encoding="utf-8"))
    bases: dict[str, dict[str, Any]] = document["bases"]
    rows = tuple(_row(bases, row, VERSIONS[at % 2]) for at, row in enumerate(document["rows"]))
    names = [row.name for row in rows]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{table.name}: each row needs a name of its own; twice: {sorted(twice)}")
    return rows


def good_workspaces(table: Path) -> dict[str, dict[str, Any]]:
    """Returns the good manifests of a table by name, without apiVersion."""
    bases: dict[str, dict[str, Any]] = yaml.safe_load(table.read_text(encoding="utf-8"))["bases"]
    return {name: {"kind": "Workspace"} | base for name, base in bases.items()}


def with_changes(manifest: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy in which each path, such as ``inference.adapters[0].strength``, has its new value; None: is gone.

    What lies on the way to a field and is missing is made. An item is put at the end of its list by the index that
    it will have.
    """
    changed = copy.deepcopy(dict(manifest))
    for path, value in changes.items():
        _change(changed, [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)], value)
    return changed


def _change(node: Any, steps: list[str | int], value: Any) -> None:
    step, *rest = steps
    if rest:
        if isinstance(node, dict):
            node.setdefault(step, {})
        _change(node[step], rest, value)
    elif value is None:
        del node[step]
    elif isinstance(node, list) and step == len(node):
        node.append(copy.deepcopy(value))
    else:
        node[step] = copy.deepcopy(value)


def _row(bases: Mapping[str, dict[str, Any]], row: dict[str, Any], api_version: str) -> BadWorkspace:
    known = {"name", "base", "before", "change", "verb", "field", "says", "given"}
    missing, unknown = known - {"before", "given"} - row.keys(), row.keys() - known
    if missing or unknown or row["verb"] not in ("create", "update"):
        raise ValueError(f"row {row.get('name', row)!r}: lacks {sorted(missing)}, has unknown {sorted(unknown)}")
    place = {"apiVersion": api_version, "kind": "Workspace"}
    good = place | with_changes(bases[row["base"]], row.get("before", {}))
    bad = with_changes(good, row["change"])
    return BadWorkspace(row["name"], row["verb"], row["field"], row["says"], good, bad, row.get("given", {}))

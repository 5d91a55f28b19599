"""Rules that admission and the planner both hold: what a Workspace's name and selector must be like."""

from __future__ import annotations

import re

from kaito.sizing import Sizing

# A Service is named after the Workspace: a DNS label that begins with a letter.
MAX_NAME = 63
# Of a StatefulSet, whose pods carry NAME-REVISION (10 characters) as a label's value.
MAX_NAME_OF_MANY = 52
_SERVICE_NAME = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")

MOST_NODES = 100
"""Of one copy of a model. The largest of the catalogue needs 80 of the smallest that can run it."""

EXPRESSIONS_TELL_NO_LABELS = (
    "nodes that are made get the labels of matchLabels, which expressions do not tell: use matchLabels, or leave "
    "resource.instanceType out to use existing nodes"
)
"""Why a selector of nodes that are to be made has no matchExpressions."""


def too_long(name: str, nodes: int) -> str | None:
    """What is wrong with a Workspace's name for its length, if it is too long for a model on so many nodes."""
    limit, why = (MAX_NAME, "its Service") if nodes == 1 else (MAX_NAME_OF_MANY, f"a model on {nodes} nodes")
    return None if len(name) <= limit else f"has {len(name)} characters; for {why} at most {limit} are allowed"


def no_service_name(name: str) -> str | None:
    """What is wrong with a Workspace's name, if no Service can be called so."""
    if _SERVICE_NAME.fullmatch(name):
        return None
    return (
        "cannot be the name of its Service: lower-case letters, digits and dashes are allowed, beginning with a letter "
        "and ending with a letter or digit"
    )


def too_many_nodes(sizing: Sizing) -> str | None:
    """What is wrong with an instance type that is so small for a model that it would take a crowd of them."""
    if sizing.minimum_nodes <= MOST_NODES:
        return None
    return (
        f"{sizing.preset} would need {sizing.minimum_nodes} nodes of {sizing.sku}, and more than {MOST_NODES} are "
        f"taken for a mistake: choose a bigger one"
    )

"""Merge patch: what leads from one state of a value to another, for writes that touch nothing else."""

from __future__ import annotations

from kaito.kube.model import KubeModel


def merge_patch(before: KubeModel, after: KubeModel) -> dict[str, object]:
    """Returns the merge patch (RFC 7386) that makes one value out of another, by their names on the wire.

    For parts of objects, a status above all:
    ``await client.status.patch(Widget, widget.key, {"status": merge_patch(widget.status, status)})``.

    Args:
        before: as it was read.
        after: as it shall be. What it leaves unset, and `before` has, is taken away, so that its default counts again.

    Returns:
        The patch; empty when there is nothing to change. Lists are replaced whole.
    """
    return _difference(before.to_dict(), after.to_dict())


def _difference(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    patch: dict[str, object] = {name: None for name in before if name not in after}
    for name, value in after.items():
        had = before.get(name)
        if name not in before or not isinstance(had, dict) or not isinstance(value, dict):
            if name not in before or had != value:
                patch[name] = value
        elif changes := _difference(had, value):
            patch[name] = changes
    return patch

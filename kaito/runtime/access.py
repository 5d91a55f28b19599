"""Access: a permission that somebody needs, declared, so that RBAC rules and the check at the start follow from it."""

from __future__ import annotations

from kaito.kube.resource import Resource


class Access:
    """A permission that a controller needs beyond its watches: ``Access(Node, "get", "patch")``.

    Args:
        kind: of what.
        verbs: such as ``get`` or ``patch``.
        subresource: such as ``eviction`` or ``status``; empty for the object itself.
    """

    def __init__(self, kind: type[Resource], *verbs: str, subresource: str = "") -> None:
        self.kind = kind
        self.verbs = verbs
        self.subresource = subresource

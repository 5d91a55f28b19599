"""Access: a permission that somebody needs, declared, so that RBAC rules and the check at the start follow from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from kaito.kube.resource import Resource

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
"""Verbs of requests, in the order in which rules name them."""
SPECIAL_VERBS = ("approve", "attest", "bind", "escalate", "impersonate", "sign", "use")
"""Verbs that some built-in kinds are guarded by, and no request has."""
EVERYWHERE = "*"

# Their requests name no object, so that a rule with names never allows them.
_NAMELESS = frozenset({"create", "deletecollection"})


@dataclass(frozen=True, init=False, slots=True)
class Access:
    """A permission that a controller needs beyond its watches: ``Access(Node, "get", "patch")``.

    Args:
        kind: of what.
        verbs: such as ``get`` or ``patch``.
        subresource: such as ``eviction`` or ``status``; empty for the object itself.
        names: only objects of these names; none: of any. No ``create``, whose requests name nothing.
        namespace: only there; None: wherever the manager works; ``*``: everywhere, even if the manager works in some
            namespaces only. Cluster-scoped kinds have none.

    Raises:
        ValueError: no verb or an unknown one, or names or a namespace that make no sense for it.
    """

    kind: type[Resource]
    verbs: tuple[str, ...]
    subresource: str
    names: tuple[str, ...]
    namespace: str | None

    def __init__(
        self,
        kind: type[Resource],
        *verbs: str,
        subresource: str = "",
        names: Iterable[str] = (),
        namespace: str | None = None,
    ) -> None:
        if isinstance(names, str):
            raise ValueError(f"Access({kind.__name__}): names is the text {names!r}; expected a list: [{names!r}]")
        given = {
            "kind": kind,
            "verbs": verbs,
            "subresource": subresource,
            "names": tuple(names),
            "namespace": namespace,
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)
        self._check()

    @property
    def resource(self) -> str:
        """As rules name it: ``pods``, ``pods/eviction``."""
        plural = self.kind.resource_type.plural
        return f"{plural}/{self.subresource}" if self.subresource else plural

    def _check(self) -> None:
        what = f"Access({self.kind.__name__})"
        if not self.verbs:
            raise ValueError(f"{what}: no verbs; name some of {', '.join(VERBS)}")
        for verb in self.verbs:
            _check_verb(what, verb)
        nameless = [verb for verb in self.verbs if verb in _NAMELESS and not self.subresource]
        if self.names and nameless:
            raise ValueError(
                f"{what}: {', '.join(nameless)} cannot be limited to names, since its requests name no object; "
                f"declare it apart, without names"
            )
        if self.namespace and not self.kind.resource_type.namespaced:
            raise ValueError(f"{what}: namespace is {self.namespace!r}, but the kind is cluster-scoped; leave it out")


def _check_verb(what: str, verb: str) -> None:
    if verb in VERBS or verb in SPECIAL_VERBS:
        return
    if verb == "*":
        raise ValueError(f"{what}: verb '*' would allow anything; name the verbs that are needed")
    nearest = difflib.get_close_matches(verb.lower().replace("_", ""), (*VERBS, *SPECIAL_VERBS), n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"expected some of {', '.join((*VERBS, *SPECIAL_VERBS))}"
    raise ValueError(f"{what}: there is no verb {verb!r}; {hint}")

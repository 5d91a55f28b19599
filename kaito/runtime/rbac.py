"""RBAC from declarations: what a manager's controllers and services need becomes the smallest rules that allow it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kaito.kube.rbac_v1 import PolicyRule
from kaito.kube.resource import Resource, ResourceType
from kaito.runtime.access import EVERYWHERE, SPECIAL_VERBS, VERBS, Access

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller
    from kaito.runtime.manager import Manager

WATCHING = ("get", "list", "watch")
OWNING = (*WATCHING, "create", "update", "patch", "delete")

_ORDER = {verb: number for number, verb in enumerate((*VERBS, *SPECIAL_VERBS))}


class Need(NamedTuple):
    """A permission, by whom it is needed, and where.

    Attributes:
        access: the permission.
        by: who needs it, in words: ``controller machine``.
        namespaces: where the manager works, for an access that says nothing of it; None: everywhere.
    """

    access: Access
    by: str
    namespaces: frozenset[str] | None = None


class Grant(NamedTuple):
    """One verb on one resource: what a rule allows, and what the API server is asked about.

    Attributes:
        namespace: where; empty: everywhere, or of a cluster-scoped kind.
        group: API group; empty for the core group.
        resource: plural.
        subresource: empty for the object itself.
        name: the only object; empty: any.
        verb: what is done.
    """

    namespace: str
    group: str
    resource: str
    subresource: str
    name: str
    verb: str

    def __str__(self) -> str:
        """In words: ``patch nodes``, ``create pods/eviction in namespace demo``."""
        group = f".{self.group}" if self.group else ""
        subresource = f"/{self.subresource}" if self.subresource else ""
        name = f" {self.name}" if self.name else ""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{group}{subresource}{name}{where}"


class Rules(NamedTuple):
    """Rules by where they belong.

    Attributes:
        cluster: of a ClusterRole.
        namespaced: of one Role each, by namespace.
    """

    cluster: tuple[PolicyRule, ...]
    namespaced: Mapping[str, tuple[PolicyRule, ...]]


def needs_of(manager: Manager) -> list[Need]:
    """Everything that a manager's controllers and services need, as they declare it."""
    needs = [
        Need(access, f"controller {controller.name}", _scope(manager, access.kind))
        for controller in manager.controllers
        for access in implied_by(controller)
    ]
    needs += [
        Need(access, service.name, _scope(manager, access.kind))
        for service in manager.services
        for access in service.needs
    ]
    elections: Sequence[Access] = getattr(manager.elections, "needs", ())
    return needs + [Need(access, "leader election", _scope(manager, access.kind)) for access in elections]


def implied_by(controller: Controller[Resource]) -> list[Access]:
    """What a controller needs: what its declarations imply, and what it says it needs beyond.

    - All kinds that it watches, its own among them: get, list, watch.
    - Its own kind's status, if that is a custom kind: get, patch, update: a controller reports there.
    - Kinds that it owns: create, update, patch, delete too, and, for the owner reference that blocks the owner's
      deletion, update of its own kind's finalizers (what the OwnerReferencesPermissionEnforcement admission asks).
    - ``needs``, to the letter. Writes to its own objects, finalizers among them, are said there: ``Access(Widget,
      "patch")``.
    """
    own = controller.kind
    implied = [Access(kind, *WATCHING) for kind in controller.kinds]
    if _is_custom(own.resource_type):
        implied.append(Access(own, "get", "update", "patch", subresource="status"))
    implied += [Access(kind, *OWNING) for kind in controller.owns]
    if controller.owns:
        implied.append(Access(own, "update", subresource="finalizers"))
    return [*implied, *controller.needs]


def grants_of(needs: Iterable[Need]) -> dict[Grant, tuple[str, ...]]:
    """Each single permission that is needed, and by whom; what another one includes is left out with it."""
    found: dict[Grant, set[str]] = defaultdict(set)
    for need in needs:
        for grant in _grants(need):
            found[grant].add(need.by)
    kept = {grant: by for grant, by in found.items() if not any(wider in found for wider in _wider(grant))}
    return {grant: tuple(sorted(by)) for grant, by in sorted(kept.items(), key=lambda item: _place(item[0]))}


def rules_of(needs: Iterable[Need]) -> Rules:
    """The smallest rules that allow what is needed; equal needs in whatever order give equal rules."""
    by_namespace: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants_of(needs):
        by_namespace[grant.namespace].append(grant)
    cluster = _rules(by_namespace.pop("", []))
    return Rules(cluster, {namespace: _rules(grants) for namespace, grants in sorted(by_namespace.items())})


def _scope(manager: Manager, kind: type[Resource]) -> frozenset[str] | None:
    """The namespaces in which a manager reads a kind."""
    if not kind.resource_type.namespaced:
        return None
    options = manager.cache.options_of(kind)
    return None if options.namespaces is None else frozenset(options.namespaces)


def _is_custom(place: ResourceType) -> bool:
    return "." in place.group and not place.group.endswith(".k8s.io")


def _grants(need: Need) -> Iterable[Grant]:
    access, place = need.access, need.access.kind.resource_type
    for namespace in _namespaces(need):
        for name in access.names or ("",):
            for verb in access.verbs:
                yield Grant(namespace, place.group, place.plural, access.subresource, name, verb)


def _namespaces(need: Need) -> Iterable[str]:
    if not need.access.kind.resource_type.namespaced or need.access.namespace == EVERYWHERE:
        return ("",)
    if need.access.namespace:
        return (need.access.namespace,)
    return ("",) if need.namespaces is None else sorted(need.namespaces)


def _wider(grant: Grant) -> set[Grant]:
    """The permissions that include this one."""
    everywhere, any_name = {"namespace": ""}, {"name": ""}
    return {grant._replace(**wider) for wider in (everywhere, any_name, {**everywhere, **any_name})} - {grant}


def _rules(grants: Iterable[Grant]) -> tuple[PolicyRule, ...]:
    """Rules of grants in one namespace: those of one group that are alike but for the resource stand together."""
    verbs: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for grant in grants:
        resource = f"{grant.resource}/{grant.subresource}" if grant.subresource else grant.resource
        verbs[grant.group, resource, grant.name].add(grant.verb)
    names: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource, name), found in sorted(verbs.items()):
        # An object by its name never shares a rule with any object.
        names[group, resource, (*sorted(found, key=_ORDER.__getitem__), *([""] if name else []))].append(name)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource, marked), named in names.items():
        resources[group, tuple(verb for verb in marked if verb), tuple(filter(None, named))].append(resource)
    ordered = sorted(resources.items(), key=lambda item: (item[0][0], item[1], item[0][2], item[0][1]))
    return tuple(_rule(group, found, named, allowed) for (group, allowed, named), found in ordered)


def _rule(group: str, resources: Iterable[str], names: tuple[str, ...], verbs: tuple[str, ...]) -> PolicyRule:
    limited = {"resource_names": names} if names else {}
    return PolicyRule(api_groups=(group,), resources=tuple(resources), verbs=verbs, **limited)


def _place(grant: Grant) -> tuple[object, ...]:
    return (*grant[:-1], _ORDER[grant.verb])

"""Template: what is plainly wrong with a pod template; the controller's dry run does the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kaito.controllers.workspace.admission.asked import Json, items
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, Warned
from kaito.runtime.webhook import duplicate, invalid, required

SPEC = "inference.template.spec"
_LABEL = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = "use at most 63 lower case letters, digits and '-', with a letter or digit at both ends"
MOST_CONTAINERS = 200
"""Containers that are looked at: more no node runs."""
SERVED_PORT = 5000
"""Where the Service of a Workspace leads."""


def template(case: Case) -> Iterable[Finding]:
    """There are containers, each with a name of its own and an image; one of them should listen where it is called."""
    given = case.asked.template
    if given is None:
        return
    spec = given.get("spec")
    if spec is not None and not isinstance(spec, Mapping):
        yield invalid(SPEC, spec, "expected a pod spec, an object")
        return
    spec = spec or {}
    containers = spec.get("containers")
    if containers is not None and not isinstance(containers, list):
        yield invalid(f"{SPEC}.containers", containers, "expected a list of containers")
        return
    if not containers:
        yield required(f"{SPEC}.containers", "name at least one container and its image")
        return
    seen: set[str] = set()
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(items(spec, kind)[:MOST_CONTAINERS]):
            yield from _container(f"{SPEC}.{kind}[{index}]", container, seen)
    if not any(_listens(container) for container in containers):
        yield Warned(f"{SPEC}.containers", f"none declares port {SERVED_PORT}, where the Service of a Workspace leads")


def _container(path: str, container: object, seen: set[str]) -> Iterable[Finding]:
    if not isinstance(container, Mapping):
        yield invalid(path, container, "expected a container, an object")
        return
    for field in ("name", "image"):
        value = container.get(field)
        if value is None or value == "":
            yield required(f"{path}.{field}", f"each container has {'a name' if field == 'name' else 'an image'}")
        elif not isinstance(value, str):
            yield invalid(f"{path}.{field}", value, "expected text")
    name = container.get("name")
    if isinstance(name, str) and name:
        if not _LABEL.fullmatch(name):
            yield invalid(f"{path}.name", name, _NAME)
        elif name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)


def _listens(container: object) -> bool:
    ports = items(container, "ports") if isinstance(container, Mapping) else ()
    return any(_number(port) == SERVED_PORT for port in ports if isinstance(port, Mapping))


def _number(port: Json) -> object:
    return port.get("containerPort")

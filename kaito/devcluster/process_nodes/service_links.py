"""Service links: the variables by which a container finds the Services of its namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kaito.devcluster.ports import LOOPBACK
from kaito.kube.core_v1 import ServicePort


@dataclass(frozen=True, slots=True)
class ServiceLink:
    """A Service as it is reached on this machine.

    Attributes:
        name: the Service's.
        ports: its TCP ports, each with the port of loopback that leads to it.
    """

    name: str
    ports: tuple[tuple[ServicePort, int], ...]


def link_variables(links: Iterable[ServiceLink]) -> dict[str, str]:
    """The variables of Services, by the names that a kubelet gives them.

    Their values are what works here: the loopback address that leads to the Service, and its port there, where a
    kubelet has the ClusterIP and the Service's own port.
    """
    return {name: value for link in links for name, value in _variables(link)}


def _variables(link: ServiceLink) -> Iterator[tuple[str, str]]:
    prefix = _upper(link.name)
    for index, (port, number) in enumerate(link.ports):
        url = f"tcp://{LOOPBACK}:{number}"
        if index == 0:
            yield f"{prefix}_SERVICE_HOST", LOOPBACK
            yield f"{prefix}_SERVICE_PORT", str(number)
            yield f"{prefix}_PORT", url
        if port.name:
            yield f"{prefix}_SERVICE_PORT_{_upper(port.name)}", str(number)
        linked = f"{prefix}_PORT_{port.port}_TCP"
        yield linked, url
        yield f"{linked}_PROTO", "tcp"
        yield f"{linked}_PORT", str(number)
        yield f"{linked}_ADDR", LOOPBACK


def _upper(name: str) -> str:
    """A name as part of a variable's; one that begins with a digit gets an underscore before it."""
    said = name.upper().replace("-", "_").replace(".", "_")
    return f"_{said}" if said[:1].isdigit() else said

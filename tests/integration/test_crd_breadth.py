"""Whatever the generator makes of a pydantic model, a real API server takes it, without a warning, and explains it."""

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, computed_field

from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.kube import Limits, ListMap, OpenSchema, Resource, Time, custom_resource_definition
from kaito.testing import eventually

T = TypeVar("T")


class Colour(StrEnum):
    """A colour."""

    RED = "red"


class Level(IntEnum):
    """A level."""

    LOW = 1


class Base(BaseModel):
    """What others build on.

    Attributes:
        depth: how deep.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    depth: Annotated[int, Field(gt=0, lt=9, multiple_of=1)] = 1


class Inner(Base):
    """More than its base."""

    width: Annotated[int, Field(title="W", examples=[3], alias="wideness")] = 2
    """How wide."""

    @computed_field
    def area(self) -> int:
        """Not written by anybody."""
        return self.depth * self.width


class Box(BaseModel, Generic[T]):
    """Holds one."""

    content: T


class Tree(BaseModel):
    """Contains itself."""

    below: Annotated[tuple["Tree", ...], Field(description="what grows on it"), OpenSchema()] = ()


@dataclass
class Point:
    x: int
    y: int = 4


class Sink(Resource, group="sink.example.com", version="v1"):
    """Everything at once."""

    inner: Inner | None = None
    model: Inner = Inner.model_validate({"wideness": 5})
    items: Annotated[list[Box[str]], ListMap("content")] = Field(default_factory=list)
    box: Box[dict[str, Inner]] | None = None
    tree: Tree | None = None
    point: Point | None = None
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    number: Literal[1, 2] = 2
    flag: bool = True
    ratio: Annotated[float, Limits(minimum=0)] = 0.5
    either: int | float | None = None
    port: int | str = "http"
    price: Decimal | None = None
    at: datetime | None = None
    seen: Time | None = None
    day: date | None = None
    hour: time | None = None
    wait: timedelta = timedelta(hours=1)
    uid: UUID | None = None
    blob: bytes = b""
    names: Annotated[set[str], Field(default={"a"})]
    counts: frozenset[int] = frozenset()
    labels: Annotated[dict[str, int], Field(default={"a": 1})]
    loose: dict[str, Any] = Field(default_factory=dict)
    whatever: Any = None
    texts: Annotated[tuple[Annotated[str, Field(pattern=r"^\w+$", max_length=9)], ...], Field(max_length=3)] = ("a",)


async def test_a_kind_of_all_that_python_people_write_is_accepted_and_explained(control_plane: ControlPlane) -> None:
    manifest = json.dumps(custom_resource_definition(Sink))
    await control_plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-", input=manifest
    )
    await control_plane.kubectl("apply", "--server-side", "-f", "-", input=manifest)
    try:
        await control_plane.kubectl("wait", "crd", "sinks.sink.example.com", "--for=condition=Established")
        explained = await eventually(lambda: control_plane.kubectl("explain", "sinks.inner"), retry_on=(KubectlError,))
        assert "How wide." in explained
        assert "How deep." in explained
        collection = "/apis/sink.example.com/v1/namespaces/default/sinks"
        obj = {"apiVersion": "sink.example.com/v1", "kind": "Sink", "metadata": {"name": "s"}}
        stored = control_plane.request("POST", f"{collection}?dryRun=All&fieldValidation=Strict", obj)
        sink = Sink.model_validate(stored)
        assert (stored["model"], stored["wait"]) == ({"depth": 1, "wideness": 5}, "PT1H")
        assert (sink.model.width, sink.wait, sink.labels, sink.names) == (5, timedelta(hours=1), {"a": 1}, {"a"})
    finally:
        await control_plane.kubectl("delete", "crd", "sinks.sink.example.com", "--wait=false")

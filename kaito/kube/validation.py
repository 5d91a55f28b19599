"""What the API server would say of an object, told here: a schema, and those of its rules that Python knows too."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kaito.kube.resource import Resource


class Fault(NamedTuple):
    """A field that may not be as it is.

    Attributes:
        field: its path as the API server writes it, such as ``inference.adapters[0].source.name``.
        reason: such as ``FieldValueInvalid``, ``FieldValueRequired``, ``FieldValueTypeInvalid``.
        message: what was given and what is allowed, in the API server's form: ``Invalid value: 11: …``.
    """

    field: str
    reason: str
    message: str


def faults(kind: type[Resource], obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> tuple[Fault, ...]:
    """Returns all that the schema of a kind finds wrong with an object. Never raises, whatever the object.

    Args:
        kind: whose schema.
        obj: the object as JSON.
        old: what it is an update of; None: it is new.
    """
    return ()

"""What a model's annotations say to the API server beyond their types: CEL rules, list types, open parts of a schema.

Each marker stands in an ``Annotated`` and changes only the generated schema, never how a value is read::

    count: Annotated[int, Rule("self == oldSelf", "count cannot be changed")] = 1
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

RuleReason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"]

VALIDATIONS = "x-kubernetes-validations"
# Words in a text, and those that a member is selected by (`self.oldSelf`), are no variables.
_CEL_TEXT = re.compile(r"""r?("(\\.|[^"\\])*"|'(\\.|[^'\\])*')""")
_CEL_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*")

REQUIRED = "x-required"
"""Never leaves `kaito.kube.schema`, which makes it part of the object's own ``required``."""


class SchemaMarker:
    """Adds keywords to the schema of what it annotates."""

    def keywords(self) -> dict[str, Any]:
        """Returns the keywords to add."""
        raise NotImplementedError

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | self.keywords()


@dataclass(frozen=True)
class Rule(SchemaMarker):
    """A CEL rule (``x-kubernetes-validations``), on a field in an ``Annotated`` or on a model in its ``cel_rules``.

    A rule that uses ``oldSelf`` is checked on updates only, and only where the field was there before.

    Attributes:
        rule: a CEL expression over ``self`` (and ``oldSelf``) that must be true.
        message: what the user reads when it is not: what is wrong and what to write instead.
        message_expression: a CEL expression for a message that contains the value; ``message`` is its fallback.
        field_path: the field below that is to blame, such as ``.source.name``; default: the annotated one.
        reason: the machine-readable cause; with FieldValueDuplicate the API server leaves the message out.
        optional_old_self: makes ``oldSelf`` an optional that is empty on create, so that a rule may hold new objects
            only: ``oldSelf.hasValue() || …`` (Kubernetes 1.30).
        holds: the same in Python, for `kaito.kube.validation`: a function of the value and of the value before (None:
            there was none), both as plain JSON; None: only the API server can tell.
    """

    rule: str
    message: str
    message_expression: str = ""
    field_path: str = ""
    reason: RuleReason | None = None
    optional_old_self: bool = False
    holds: Callable[[Any, Any], bool] | None = field(default=None, compare=False)

    def keywords(self) -> dict[str, Any]:
        return {VALIDATIONS: [self]}

    @property
    def uses_old_self(self) -> bool:
        """Whether the rule compares with the value before, so that it is about changes only."""
        return "oldSelf" in _CEL_WORD.findall(_CEL_TEXT.sub("", self.rule))

    def to_dict(self) -> dict[str, str | bool]:
        """Returns the rule as the CRD has it."""
        fields = {
            "rule": self.rule,
            "message": self.message,
            "messageExpression": self.message_expression,
            "fieldPath": self.field_path,
            "reason": self.reason,
            "optionalOldSelf": self.optional_old_self,
        }
        return {key: value for key, value in fields.items() if value}

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        inner = handler(schema)
        return inner | {VALIDATIONS: [*inner.get(VALIDATIONS, []), self]}


@dataclass(frozen=True)
class ListMap(SchemaMarker):
    """A list whose items are told apart by one of their fields; appliers own items, not the list."""

    key: str

    def keywords(self) -> dict[str, Any]:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}


@dataclass(frozen=True)
class ListSet(SchemaMarker):
    """A list of different scalars; appliers own items, not the list."""

    def keywords(self) -> dict[str, Any]:
        return {"x-kubernetes-list-type": "set"}


@dataclass(frozen=True)
class Atomic(SchemaMarker):
    """A list that one applier owns as a whole."""

    def keywords(self) -> dict[str, Any]:
        return {"x-kubernetes-list-type": "atomic"}


@dataclass(frozen=True)
class AtomicMap(SchemaMarker):
    """An object or map that one applier owns as a whole."""

    def keywords(self) -> dict[str, Any]:
        return {"x-kubernetes-map-type": "atomic"}


@dataclass(frozen=True)
class OpenSchema(SchemaMarker):
    """An object whose fields the CRD does not list, since its schema is somebody else's; all of them are kept."""

    def keywords(self) -> dict[str, Any]:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self.keywords()


@dataclass(frozen=True)
class Limits(SchemaMarker):
    """Bounds that the API server holds writers to, but not this program its readings.

    pydantic's own (``Field(max_length=…)``) become part of the schema too, but refuse on reading as well: an object
    that was stored under laxer rules could then not even be read to be finalized.
    """

    minimum: int | None = None
    maximum: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    min_items: int | None = None
    max_items: int | None = None
    max_properties: int | None = None

    def keywords(self) -> dict[str, Any]:
        return {to_camel(name): value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Required(SchemaMarker):
    """A field that writers must send although the class has a default for it."""

    def keywords(self) -> dict[str, Any]:
        return {REQUIRED: True}


class Enum(SchemaMarker):
    """The values that writers may choose from, where readers must live with others (see `Limits`); else use Literal."""

    def __init__(self, *values: str) -> None:
        self.values = values

    def keywords(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


Int32 = Annotated[int, Field(json_schema_extra={"format": "int32"})]
"""An int of 32 bits; other ints become int64."""

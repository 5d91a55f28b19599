"""kaito.kube.schema: models as structural schemas."""

from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kaito.kube import FrozenDict, FrozenJson, FrozenMap, KubeModel, Limits, ListMap, OpenSchema, Rule, Time
from kaito.kube.quantity import QUANTITY_PATTERN, QuantityString
from kaito.kube.schema import SchemaError, structural_schema
from kaito.kube.schema_markers import Atomic, AtomicMap, Enum, Int32, ListSet, Required
from kaito.kube.validation_formats import pattern_check


class Wheel(KubeModel):
    """What a car stands on.

    More about wheels.

    Attributes:
        size: inches,
            across.
    """

    size: int

    cel_rules: ClassVar[tuple[Rule, ...]] = (Rule("self.size > 0", "a wheel has a size"),)


def property_of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    model = type("Model", (KubeModel,), {"__annotations__": {"value": annotation}, "value": Field(default)})
    schema: dict[str, Any] = structural_schema(model)["properties"]["value"]
    return schema


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (int, {"type": "integer", "format": "int64"}),
        (Int32, {"type": "integer", "format": "int32"}),
        (float, {"type": "number"}),
        (Time, {"type": "string", "format": "date-time"}),
        (str | None, {"type": "string"}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (tuple[str, ...], {"type": "array", "items": {"type": "string"}}),
        (FrozenMap[str, int], {"type": "object", "additionalProperties": {"type": "integer", "format": "int64"}}),
        (FrozenJson, {"x-kubernetes-preserve-unknown-fields": True}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}),
        (
            QuantityString,
            {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": QUANTITY_PATTERN,
                "x-kubernetes-int-or-string": True,
            },
        ),
        (Annotated[int, Field(ge=1, le=9)], {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9}),
        (
            Annotated[str, Field(pattern="^a", min_length=1, max_length=3)],
            {"type": "string", "pattern": "^a", "minLength": 1, "maxLength": 3},
        ),
        (
            Annotated[str | None, Limits(max_length=3, pattern="^a")],
            {"type": "string", "maxLength": 3, "pattern": "^a"},
        ),
        (
            Annotated[tuple[str, ...], Field(max_length=2), ListSet()],
            {"type": "array", "items": {"type": "string"}, "maxItems": 2, "x-kubernetes-list-type": "set"},
        ),
        (
            Annotated[tuple[str, ...], Atomic(), Limits(max_items=2)],
            {"type": "array", "items": {"type": "string"}, "maxItems": 2, "x-kubernetes-list-type": "atomic"},
        ),
        (
            Annotated[FrozenMap[str, str], AtomicMap(), Limits(max_properties=4)],
            {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "maxProperties": 4,
                "x-kubernetes-map-type": "atomic",
            },
        ),
        (Annotated[str, Enum("a", "b")], {"type": "string", "enum": ["a", "b"]}),
        (Annotated[Wheel | None, OpenSchema()], {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        (Annotated[str, Field(description="what it is")], {"type": "string", "description": "what it is"}),
    ],
)
def test_a_type_becomes_what_kubernetes_calls_it(annotation: Any, expected: dict[str, Any]) -> None:
    assert property_of(annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (int, 3, 3),
        (str, "x", "x"),
        (bool, True, True),
        (Int32, 1, 1),
        (int, 0, None),
        (str, "", None),
        (bool, False, None),
        (str | None, None, None),
        (tuple[str, ...], (), None),
        (FrozenMap[str, str], FrozenDict(), None),
    ],
)
def test_only_defaults_that_are_not_zero_values_are_written_into_objects(
    annotation: Any, default: Any, expected: object
) -> None:
    assert property_of(annotation, default).get("default") == expected


class Car(KubeModel):
    """A car.

    Attributes:
        wheels: all of them.
        plate_number: given by the authority.
    """

    wheels: Annotated[tuple[Wheel, ...], ListMap("size")] = ()
    spare: Annotated[Wheel | None, Rule("self == oldSelf", "the spare stays", field_path=".size")] = None
    plate_number: str
    seen: Annotated[Time | None, Required()] = None


def test_a_model_is_closed_and_inline_with_its_rules_and_descriptions() -> None:
    wheel_rule = {"rule": "self.size > 0", "message": "a wheel has a size"}
    wheel = {
        "type": "object",
        "description": "What a car stands on.",
        "properties": {"size": {"type": "integer", "format": "int64", "description": "Inches, across."}},
        "required": ["size"],
        "x-kubernetes-validations": [wheel_rule],
    }
    spare_rule = {"rule": "self == oldSelf", "message": "the spare stays", "fieldPath": ".size"}
    assert structural_schema(Car) == {
        "type": "object",
        "description": "A car.",
        "properties": {
            "wheels": {
                "type": "array",
                "items": wheel,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["size"],
                "description": "All of them.",
            },
            "spare": wheel | {"x-kubernetes-validations": [wheel_rule, spare_rule]},
            "plateNumber": {"type": "string", "description": "Given by the authority."},
            "seen": {"type": "string", "format": "date-time"},
        },
        "required": ["plateNumber", "seen"],
    }


def test_several_rules_of_one_field_keep_their_order_and_optional_parts() -> None:
    rules = property_of(
        Annotated[
            str, Rule("self != 'a'", "not a", message_expression="self"), Rule("true", "b", reason="FieldValueInvalid")
        ]
    )["x-kubernetes-validations"]
    assert rules == [
        {"rule": "self != 'a'", "message": "not a", "messageExpression": "self"},
        {"rule": "true", "message": "b", "reason": "FieldValueInvalid"},
    ]


class Tree(KubeModel):
    """A tree."""

    branches: "tuple[Tree, ...]" = ()


def test_a_model_that_contains_itself_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match="Tree -> Tree: a structural schema cannot contain itself"):
        structural_schema(Tree)


class Colour(StrEnum):
    """A colour."""

    RED = "red"


class Level(IntEnum):
    """A level."""

    LOW = 1


class Plain(BaseModel):
    """A model that knows nothing of Kubernetes.

    Attributes:
        depth: how deep.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    depth: int = 1
    width: Annotated[int, Field(title="W", examples=[3], deprecated=True, gt=0)] = 2
    """How wide."""


@dataclass
class Point:
    x: int
    y: int = 4


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Colour, {"type": "string", "enum": ["red"], "description": "A colour."}),
        (Level, {"type": "integer", "enum": [1], "description": "A level."}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (date, {"type": "string", "format": "date"}),
        (time, {"type": "string"}),
        (UUID, {"type": "string", "format": "uuid"}),
        (bytes, {"type": "string"}),
        (int | float, {"type": "number"}),
        (dict[str, Any], {"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": True}}),
        (list, {"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": True}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
        (
            Point,
            {
                "type": "object",
                "properties": {
                    "x": {"type": "integer", "format": "int64"},
                    "y": {"type": "integer", "format": "int64", "default": 4},
                },
                "required": ["x"],
            },
        ),
        (
            Plain,
            {
                "type": "object",
                "description": "A model that knows nothing of Kubernetes.",
                "properties": {
                    "depth": {"type": "integer", "format": "int64", "default": 1, "description": "How deep."},
                    "width": {
                        "type": "integer",
                        "format": "int64",
                        "minimum": 0,
                        "exclusiveMinimum": True,
                        "default": 2,
                        "description": "How wide.",
                    },
                },
            },
        ),
    ],
)
def test_what_python_people_write_becomes_what_a_crd_can_hold(annotation: Any, expected: dict[str, Any]) -> None:
    assert property_of(annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "text", "fits"),
    [
        (Decimal, "-1.50", True),
        (Decimal, "a", False),
        (timedelta, "P1DT2H0.5S", True),
        (timedelta, "1h30m", False),
    ],
)
def test_a_text_with_a_form_of_its_own_has_a_pattern(annotation: Any, text: str, fits: bool) -> None:
    matches = pattern_check(property_of(annotation)["pattern"])
    assert matches is not None
    assert matches(text) is fits
    if fits:
        TypeAdapter(annotation).validate_python(text)


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (Colour, Colour.RED, "red"),
        (list[int], [1], [1]),
        (Plain, Plain(depth=5), {"depth": 5, "width": 2}),
        (FrozenMap[str, str], FrozenDict(a="b"), {"a": "b"}),
    ],
)
def test_a_default_is_written_as_json(annotation: Any, default: Any, expected: object) -> None:
    assert property_of(annotation, default)["default"] == expected


class Cat(KubeModel):
    """A cat."""

    kind: Literal["cat"] = "cat"


class Dog(KubeModel):
    """A dog."""

    kind: Literal["dog"] = "dog"


class Kept(KubeModel):
    """One with a field that stays."""

    name: Annotated[str, Rule("self == oldSelf", "stays")] = ""


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (bool | str, ..., "Model.value: a union of bool and str: .* write one model with an optional field for each"),
        (Cat | Dog, ..., "Model.value: a union of"),
        (Annotated[Cat | Dog, Field(discriminator="kind")], ..., "Model.value: a union told apart by 'kind'"),
        (Literal["a", 1], ..., "Model.value: Literal of int, str"),
        (tuple[int, str], ..., "Model.value: a tuple with a type for each place"),
        (set[Cat], ..., "Model.value: a set of objects"),
        (dict[int, str], ..., "Model.value: a map with keys of type int"),
        (complex, ..., "Model.value: complex has no JSON type"),
        (type(None), ..., "Model.value: a field that can only be None"),
        (Annotated[str, Limits(pattern="^(?!a)")], "", "Model.value: pattern .* is not one of RE2"),
        (Annotated[int, Limits(minimum=5)], 3, "Model.value: its default 3 breaks its own schema: .* equal to 5"),
        (Annotated[tuple[Wheel, ...], ListMap("nam")], (), r"Model.value: ListMap\('nam'\): .* their fields are size"),
        (Annotated[tuple[Kept, ...], ListMap("name")], (), "Model.value: .*must be required or have a default"),
        (Annotated[tuple[Wheel, ...], ListSet()], (), "Model.value: ListSet is for scalars"),
        (Annotated[int, ListSet()], 1, "Model.value: a list type"),
        (tuple[Kept, ...], (), r"Model.value\[\].name: the rule .* asks for oldSelf below Model.value"),
        (Annotated[Cat, Rule("true", "x", field_path=".knd")], ..., "Model.value: field_path '.knd'"),
        (Annotated[str, Field(json_schema_extra={"x-mine": 1})], "", "Model.value: 'x-mine' cannot be part"),
    ],
)
def test_what_no_api_server_takes_is_refused_by_field_with_what_to_write(
    annotation: Any, default: Any, message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        property_of(annotation, default)


def test_limits_bind_writers_but_not_readers() -> None:
    class Short(KubeModel):
        name: Annotated[str, Limits(max_length=1)] = ""

    assert Short.model_validate({"name": "long"}).name == "long"

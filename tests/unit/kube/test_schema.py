"""kaito.kube.schema: models as structural schemas."""

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from kaito.kube import FrozenDict, FrozenJson, FrozenMap, KubeModel, Limits, ListMap, OpenSchema, Rule, Time
from kaito.kube.quantity import QUANTITY_PATTERN, QuantityString
from kaito.kube.schema import SchemaError, structural_schema
from kaito.kube.schema_markers import Atomic, AtomicMap, Enum, Int32, ListSet, Required


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
        "properties": {"size": {"type": "integer", "format": "int64", "description": "inches, across."}},
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
                "description": "all of them.",
            },
            "spare": wheel | {"x-kubernetes-validations": [wheel_rule, spare_rule]},
            "plateNumber": {"type": "string", "description": "given by the authority."},
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


def test_other_unions_and_enums_are_refused() -> None:
    with pytest.raises(SchemaError, match="a union of"):
        property_of(bool | str)
    with pytest.raises(SchemaError, match="only strings"):
        property_of(Literal[1, 2])


def test_limits_bind_writers_but_not_readers() -> None:
    class Short(KubeModel):
        name: Annotated[str, Limits(max_length=1)] = ""

    assert Short.model_validate({"name": "long"}).name == "long"

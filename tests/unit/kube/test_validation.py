"""kaito.kube.validation: what the API server would say of an object, told in Python."""

import logging
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from kaito.kube import (
    CRDOptions,
    FrozenDict,
    FrozenJson,
    FrozenMap,
    KubeModel,
    Limits,
    ListMap,
    OpenSchema,
    Resource,
    Rule,
    Time,
)
from kaito.kube.schema_markers import Enum, Int32, ListSet, Required
from kaito.kube.validation import MAX_FAULTS, Fault, faults


class Note(KubeModel):
    """A wheel that is only noted."""

    name: Annotated[str, Limits(max_length=5)]
    size: int = 3

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.size != 13", "no thirteen", field_path=".size", holds=lambda now, _: now["size"] != 13),
    )


class Wheel(Note):
    """A wheel."""

    size: Annotated[int, Rule("self == oldSelf", "size stays", holds=lambda now, before: now == before)] = 3


class Owner(KubeModel):
    """An owner."""

    name: str
    born: Annotated[str, Limits(pattern=r"^\d{4}$")] = ""


class CarSpec(KubeModel):
    """What is wanted."""

    doors: Annotated[Int32, Limits(minimum=1, maximum=10)] = 4
    fuel: Literal["petrol", "power"] = "power"
    plate: Annotated[str, Limits(min_length=2, max_length=8, pattern="^[A-Z]+-\\d+$")] = ""
    colour: Annotated[str, Enum("red", "blue")] = ""
    price: Annotated[float, Field(ge=0, lt=100)] = 1
    seen: Time | None = None
    power: int | str = 5
    wheels: Annotated[tuple[Wheel, ...], ListMap("name"), Limits(max_items=3, min_items=1)] = ()
    tags: Annotated[tuple[str, ...], ListSet()] = ()
    notes: tuple[Note, ...] = ()
    labels: Annotated[FrozenMap[str, Annotated[str, Limits(max_length=3)]], Limits(max_properties=2)] = FrozenDict()
    parts: FrozenMap[str, Wheel] = FrozenDict()
    owner: Annotated[
        Owner | None, Rule("self.name != 'nobody'", "somebody", holds=lambda now, _: now["name"] != "nobody")
    ] = None
    radio: Annotated[Owner | None, OpenSchema()] = None
    extra: FrozenJson = None
    step: Annotated[int, Field(multiple_of=5)] = 5
    serial: Annotated[str, Required()] = ""

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.doors != 3", "three doors are none", reason="FieldValueForbidden", holds=lambda n, _: n["doors"] != 3
        ),
        Rule(
            "oldSelf.hasValue() || self.doors != 7",
            "new cars have no seven doors",
            optional_old_self=True,
            holds=lambda now, before: before is not None or now["doors"] != 7,
        ),
        Rule("has(self.plate)", "only the API server tells"),
    )


class Car(Resource, group="example.com", version="v1"):
    """A car."""

    spec: CarSpec
    status: Owner | None = None


def of(spec: Any, old: Any = None) -> list[Fault]:
    return list(faults(Car, {"spec": spec}, None if old is None else {"spec": old}))


def told(spec: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    whole = {"serial": "s"}
    found = of(whole | spec, None if old is None else whole | old)
    return [f"{fault.field}: {fault.message}" for fault in found]


def wheel(name: str, size: int = 3) -> dict[str, Any]:
    return {"name": name, "size": size}


@pytest.mark.parametrize(
    ("spec", "reason", "expected"),
    [
        ({"doors": 11}, "Invalid", "doors: Invalid value: 11: should be less than or equal to 10"),
        ({"doors": 0}, "Invalid", "doors: Invalid value: 0: should be greater than or equal to 1"),
        ({"doors": "4"}, "TypeInvalid", 'doors: Invalid value: "4": must be of type integer: "string"'),
        ({"doors": True}, "TypeInvalid", 'doors: Invalid value: true: must be of type integer: "boolean"'),
        ({"doors": 4.5}, "TypeInvalid", 'doors: Invalid value: 4.5: must be of type integer: "number"'),
        (
            {"step": 2**63},
            "TypeInvalid",
            'step: Invalid value: 9223372036854775808: must be of type integer: "integer"',
        ),
        ({"step": 12}, "Invalid", "step: Invalid value: 12: should be a multiple of 5"),
        ({"price": 100}, "Invalid", "price: Invalid value: 100: should be less than 100"),
        ({"price": -0.5}, "Invalid", "price: Invalid value: -0.5: should be greater than or equal to 0"),
        (
            {"fuel": "coal"},
            "NotSupported",
            'fuel: Unsupported value: "coal": supported values: "petrol", "power"',
        ),
        ({"colour": "pink"}, "NotSupported", 'colour: Unsupported value: "pink": supported values: "red", "blue"'),
        ({"plate": "A"}, "Invalid", 'plate: Invalid value: "A": should be at least 2 chars long'),
        ({"plate": "ABCDEF-99"}, "TooLong", "plate: Too long: may not be more than 8 bytes"),
        ({"plate": "AB-x"}, "Invalid", "plate: Invalid value: \"AB-x\": should match '^[A-Z]+-\\d+$'"),
        ({"plate": "AB-\u0663"}, "Invalid", "plate: Invalid value: \"AB-\u0663\": should match '^[A-Z]+-\\d+$'"),
        ({"seen": "today"}, "TypeInvalid", 'seen: Invalid value: "today": must be of type date-time: "today"'),
        ({"seen": 5}, "TypeInvalid", 'seen: Invalid value: 5: must be of type date-time: "integer"'),
        ({"power": 1.5}, "TypeInvalid", 'power: Invalid value: 1.5: must be of type integer,string: "number"'),
        ({"wheels": []}, "Invalid", "wheels: Invalid value: 0: should have at least 1 items"),
        (
            {"wheels": [wheel("a"), wheel("b"), wheel("c"), wheel("d")]},
            "TooMany",
            "wheels: Too many: 4: must have at most 3 items",
        ),
        ({"wheels": [wheel("a"), {"name": "a"}]}, "Duplicate", 'wheels[1]: Duplicate value: {"name":"a"}'),
        ({"wheels": [{}]}, "Required", "wheels[0].name: Required value"),
        ({"wheels": [None]}, "TypeInvalid", 'wheels[0]: Invalid value: "null": must be of type object: "null"'),
        ({"wheels": {"name": "a"}}, "TypeInvalid", 'wheels: Invalid value: "object": must be of type array: "object"'),
        ({"tags": ["a", "b", "a", "a"]}, "Duplicate", 'tags[2]: Duplicate value: "a"'),
        ({"labels": {"a": "long"}}, "TooLong", "labels.a: Too long: may not be more than 3 bytes"),
        ({"labels": {"a": "", "b": "", "c": ""}}, "TooMany", "labels: Too many: 3: must have at most 2 items"),
        ({"owner": {"name": "nobody"}}, "Invalid", "owner: Invalid value: somebody"),
        ({"notes": [wheel("a", 13)]}, "Invalid", "notes[0].size: Invalid value: no thirteen"),
        ({"parts": {"x": wheel("a", 13)}}, "Invalid", "parts[x].size: Invalid value: no thirteen"),
        ({"doors": 3}, "Forbidden", "Forbidden: three doors are none"),
        ({"doors": 7}, "Invalid", "Invalid value: new cars have no seven doors"),
    ],
)
def test_a_defect_is_told_in_the_api_servers_words(spec: dict[str, Any], reason: str, expected: str) -> None:
    (fault,) = of({"serial": "s"} | spec)
    assert fault.reason == f"FieldValue{reason}"
    assert f"{fault.field}: {fault.message}" == f"spec{': ' if expected[0].isupper() else '.'}{expected}"


def test_what_is_right_has_no_faults() -> None:
    spec = {
        "doors": 4.0,
        "fuel": "petrol",
        "plate": "AB-12",
        "price": 99.5,
        "seen": "2026-01-02T03:04:05Z",
        "power": "5",
        "wheels": [wheel("a"), wheel("b")],
        "tags": ["a", "b"],
        "labels": {"a": "\U0001f600\U0001f600\U0001f600"},
        "radio": {"any": [None, {"thing": 1}]},
        "extra": 5,
        "unknown": {"is": "dropped"},
    }
    assert told(spec) == []


def test_a_field_that_the_class_has_a_default_for_may_still_be_required() -> None:
    assert of({}) == [Fault("spec.serial", "FieldValueRequired", "Required value")]
    assert faults(Car, {}) == (Fault("spec", "FieldValueRequired", "Required value"),)


def test_a_null_counts_as_absent_and_gets_the_default() -> None:
    assert told({"doors": None, "plate": None, "owner": None}) == []
    assert of({"serial": None}) == [Fault("spec.serial", "FieldValueRequired", "Required value")]


def test_defaults_are_there_when_a_rule_is_asked() -> None:
    assert told({"notes": [{"name": "a"}]}) == []


def test_all_faults_are_told_at_once_but_for_rules_over_what_is_broken() -> None:
    spec = {"doors": 3, "fuel": "coal", "owner": {}, "notes": [wheel("toolong", 13), wheel("b", 13)]}
    assert told(spec) == [
        'spec.fuel: Unsupported value: "coal": supported values: "petrol", "power"',
        "spec.owner.name: Required value",
        "spec.notes[0].name: Too long: may not be more than 5 bytes",
        "spec.notes[1].size: Invalid value: no thirteen",
    ]


def test_a_fault_that_an_update_leaves_as_it_was_is_none() -> None:
    broken = {"doors": 3, "plate": "AB", "owner": {"name": "nobody"}, "tags": ["a", "a"], "labels": {"a": "long"}}
    assert told(broken, broken) == []
    # The spec changed, so that its own rule looks again; what is below is as it was.
    assert told(broken | {"fuel": "petrol"}, broken) == ["spec: Forbidden: three doors are none"]
    assert told(broken | {"plate": "CD"}, broken) == [
        "spec.plate: Invalid value: \"CD\": should match '^[A-Z]+-\\d+$'",
        "spec: Forbidden: three doors are none",
    ]


def test_an_item_of_a_list_map_is_compared_with_the_one_of_its_key_and_of_another_list_with_none() -> None:
    old = {"wheels": [wheel("toolong", 13), wheel("b")], "notes": [wheel("toolong", 13), wheel("b")]}
    moved = {"wheels": [wheel("b"), wheel("toolong", 13)], "notes": [wheel("b"), wheel("toolong", 13)]}
    assert told(moved, old) == [
        "spec.notes[1].name: Too long: may not be more than 5 bytes",
    ]


def test_what_may_not_change_is_told_where_old_and_new_belong_together() -> None:
    old = {"wheels": [wheel("a", 1)], "parts": {"x": wheel("a", 1)}, "notes": [wheel("a", 1)]}
    new = {"wheels": [wheel("b", 2), wheel("a", 2)], "parts": {"x": wheel("a", 2), "y": wheel("y", 2)}}
    assert told(new | {"notes": [wheel("a", 2)]}, old) == [
        "spec.wheels[1].size: Invalid value: 2: size stays",
        "spec.parts[x].size: Invalid value: 2: size stays",
    ]
    assert told(new) == []


def test_the_status_of_an_update_is_the_old_one() -> None:
    good = {"spec": {"serial": "s"}}
    assert faults(Car, good | {"status": {}}) == ()
    assert faults(Car, good | {"status": {}}, good) == ()
    stored = good | {"status": {"name": "a", "born": "x"}}
    assert faults(Car, good, stored) == ()


class Crate(Resource, group="example.com", version="v1"):
    """A crate without a status subresource."""

    status: Owner | None = None
    metadata_rule: str = ""

    crd: ClassVar[CRDOptions] = CRDOptions(status=False)
    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.metadata.name != 'x'", "not x", holds=lambda now, _: now["metadata"]["name"] != "x"),
    )


def test_a_rule_of_the_root_sees_the_metadata() -> None:
    assert faults(Crate, {"metadata": {"name": "x"}}) == (Fault("", "FieldValueInvalid", "Invalid value: not x"),)
    assert faults(Crate, {"metadata": {"name": "y"}, "status": {}}) == (
        Fault("status.name", "FieldValueRequired", "Required value"),
    )


def broken_rule(*_: Any) -> bool:
    raise KeyError("oops")


class Seat(KubeModel):
    """A seat."""

    number: str = ""
    row: int = 1
    labels: Annotated[
        FrozenMap[str, str], Rule("…", "no label", message_expression="…", holds=lambda labels, _: "x" not in labels)
    ] = FrozenDict()

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("…", "no row", message_expression="…", field_path=".row", holds=lambda seat, _: seat["row"] != 13),
        Rule(
            "oldSelf",
            "seats stay",
            message_expression="…",
            field_path=".number",
            reason="FieldValueForbidden",
            holds=lambda seat, old: seat.get("number") == old.get("number"),
        ),
        Rule(
            "…",
            "take one",
            "…",
            field_path=".number",
            reason="FieldValueRequired",
            holds=lambda seat, _: seat["row"] < 9,
        ),
    )


class Ticket(Resource, group="example.com", version="v1"):
    """A ticket."""

    seat: Seat


def test_a_rule_that_would_tell_what_was_given_in_cel_has_it_shown() -> None:
    def messages(new: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
        return [fault.message for fault in faults(Ticket, {"seat": new}, None if old is None else {"seat": old})]

    assert messages({"row": 13, "labels": {"x": "y"}}) == [
        "Invalid value: 13: no row",
        "Required value: take one",
        'Invalid value: {"x":"y"}: no label',
    ]
    assert messages({"number": "b"}, {"number": "a"}) == ['Forbidden: "a" cannot become "b": seats stay']
    assert messages({}, {"number": "a"}) == ['Forbidden: "a" cannot become "": seats stay']
    assert messages({"number": "x" * 999}, {})[0].startswith('Forbidden: "" cannot become "xxx')
    assert len(messages({"number": "x" * 999}, {})[0]) < 320


class Trap(Resource, group="example.com", version="v1"):
    """A kind with a rule that Python cannot check."""

    value: Annotated[int, Rule("self > 0", "above 0", holds=broken_rule)] = 1


def test_a_rule_that_raises_cannot_tell_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert [faults(Trap, {"value": value}) for value in range(3)] == [(), (), ()]
    (record,) = caplog.records
    assert vars(record)["rule"] == "self > 0"
    assert "KeyError('oops')" in vars(record)["error"]


def test_of_many_faults_some_are_told_and_that_there_are_more() -> None:
    found = of({"serial": "s", "tags": [1] * 5000})
    assert len(found) == MAX_FAULTS + 1
    assert found[-1] == Fault("", "FieldValueInvalid", "there are more faults than the 100 named here")


def test_a_long_value_is_cut_where_a_message_repeats_it() -> None:
    ((_, _, message),) = of({"serial": "s", "colour": "x" * 10_000})
    assert len(message) < 400


def test_a_pattern_that_would_hold_python_up_takes_no_time() -> None:
    class Slow(Resource, group="example.com", version="v1"):
        """A kind with a pattern that backtracks."""

        value: Annotated[str, Limits(pattern="^(([a-z])+.)+[A-Z]([a-z])+$")] = ""

    assert len(faults(Slow, {"value": "a" * 100_000})) == 1


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["a", "power", "AB-12", "2026-01-02T03:04:05Z"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*CarSpec.model_fields, "name", "size"]), inner)
    ),
    max_leaves=12,
)
SPECS = st.dictionaries(st.sampled_from(sorted(CarSpec.model_fields)), ODD, max_size=6)
OBJECTS = ODD | st.fixed_dictionaries({"spec": SPECS | ODD}, optional={"status": ODD, "metadata": ODD})


@settings(max_examples=200, deadline=None)
@given(OBJECTS, st.none() | OBJECTS)
def test_no_object_makes_it_raise(obj: Any, old: Any) -> None:
    for fault in faults(Car, obj, old):
        assert isinstance(fault.field, str)
        assert fault.reason.startswith("FieldValue")
        assert len(fault.message) < 1000


# Not so with fields that no schema knows, and items of list-maps without a key: the API server takes them for changed.
KNOWN = st.dictionaries(st.sampled_from(sorted(CarSpec.model_fields.keys() - {"radio", "extra", "wheels"})), ODD)


@settings(max_examples=100, deadline=None)
@given(KNOWN)
@example({"colour": float("nan")})
def test_an_object_that_is_stored_breaks_nothing_by_staying(spec: dict[str, Any]) -> None:
    assert of(spec, spec) == []


@pytest.mark.parametrize("value", [{"spec": {"radio": None}}, {"spec": None}, None, 5, [], "x", float("nan")])
def test_values_that_are_no_objects_are_told_as_such(value: Any) -> None:
    assert faults(Car, value)


def test_a_deep_value_is_no_deeper_than_its_schema() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"radio": deep, "spec": deep}
    assert faults(Car, {"spec": {"serial": "s", "radio": deep, "extra": deep}}, {"spec": {"extra": deep}}) == ()
    assert len(faults(Car, {"spec": {"serial": deep, "colour": deep}})) == 2
    while deep:  # piece by piece, for Python frees it by recursion
        deep = deep.pop("spec") if deep.pop("radio") is not None else None

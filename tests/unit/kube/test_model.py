"""kaito.kube.model: frozen values that lose nothing, and drafts to write in."""

import json
from collections.abc import Callable

import pytest
from pydantic import Field, ValidationError

from kaito.kube import FrozenMap, FrozenModelError, KubeModel, ObjectMeta, Pod
from kaito.kube.frozen import FrozenDict


class Engine(KubeModel):
    fuel_type: str = ""
    labels: FrozenMap[str, str] = FrozenDict()


class Car(KubeModel):
    seat_count: int = 4
    engine: Engine = Field(default_factory=Engine)
    wheels: tuple[Engine, ...] = ()


def read(value: object) -> Car:
    return Car.model_validate_json(json.dumps(value))


def test_python_names_are_snake_case_and_wire_names_are_camel_case() -> None:
    assert Car(seat_count=2).to_dict() == {"seatCount": 2}
    assert read({"seatCount": 2}).seat_count == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda car: setattr(car, "seat_count", 5),
        lambda car: setattr(car.engine, "fuel_type", "x"),
        lambda car: setattr(car, "paint", "red"),
        lambda car: delattr(car, "seat_count"),
        lambda car: car.engine.labels.__setitem__("a", "b"),
        lambda car: car.model_extra["unknown"].__setitem__("a", "b"),
    ],
)
def test_an_object_that_was_read_cannot_be_changed_at_any_depth(change: Callable[[Car], object]) -> None:
    car = read({"seatCount": 2, "engine": {"fuelType": "gas", "labels": {}}, "unknown": {"deep": [1]}})
    with pytest.raises(TypeError, match="edit"):
        change(car)


def test_lists_are_tuples_even_in_fields_that_the_class_does_not_know() -> None:
    car = read({"wheels": [{"fuelType": "x"}], "unknown": {"deep": [1]}})
    assert isinstance(car.wheels, tuple)
    assert car.model_extra == {"unknown": {"deep": (1,)}}


def test_fields_that_the_class_does_not_know_are_written_back() -> None:
    wire = {"seatCount": 2, "paint": {"color": "red", "coats": [1, 2]}}
    assert json.loads(json.dumps(read(wire).to_dict())) == wire


def test_defaults_and_nulls_are_not_written() -> None:
    assert Car().to_dict() == {}
    assert ObjectMeta(name="a", namespace=None).to_dict() == {"name": "a"}


def test_a_draft_is_written_without_touching_the_object() -> None:
    car = read({"seatCount": 2, "engine": {"fuelType": "gas"}, "wheels": [{"fuelType": "a"}]})
    draft = car.edit()
    draft.seat_count = 5
    draft.engine.fuel_type = "diesel"
    draft.wheels[0].fuel_type = "b"
    assert car.to_dict() == {"seatCount": 2, "engine": {"fuelType": "gas"}, "wheels": [{"fuelType": "a"}]}
    assert draft.to_dict() == {"seatCount": 5, "engine": {"fuelType": "diesel"}, "wheels": [{"fuelType": "b"}]}


def test_what_a_draft_writes_below_an_unset_field_is_kept() -> None:
    draft = Car().edit()
    draft.engine.fuel_type = "gas"
    assert draft.to_dict() == {"engine": {"fuelType": "gas"}}


def test_a_draft_checks_what_it_is_given() -> None:
    draft = Car().edit()
    with pytest.raises(ValidationError):
        draft.seat_count = "many"  # type: ignore[assignment]


def test_maps_of_a_draft_are_replaced_and_not_changed_in_place() -> None:
    draft = read({"engine": {"labels": {"a": "b"}}}).edit()
    draft.engine.labels = {**draft.engine.labels, "c": "d"}
    assert isinstance(draft.engine.labels, FrozenDict)
    assert draft.to_dict() == {"engine": {"labels": {"a": "b", "c": "d"}}}


def test_a_draft_says_nothing_of_what_was_not_written_in_it() -> None:
    draft = Car.model_validate({}).edit()
    assert draft.to_dict() == {}
    assert draft.edit().to_dict() == {}


def test_the_error_names_the_field_and_the_way_out() -> None:
    with pytest.raises(FrozenModelError, match=r"Car\.seat_count cannot be assigned: .*\.edit\(\)"):
        Car().seat_count = 1


def test_a_real_pod_is_written_back_as_it_came() -> None:
    wire = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "m"}]},
        "spec": {"containers": [{"name": "c", "securityContext": {"capabilities": {"drop": ["ALL"]}}}]},
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "qosClass": "BestEffort"},
    }
    assert json.loads(json.dumps(Pod.model_validate_json(json.dumps(wire)).to_dict())) == wire

"""kaito.kube.meta_v1: times on the wire."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from kaito.kube import Condition, Lease
from kaito.kube.coordination_v1 import LeaseSpec

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_times_are_written_in_whole_seconds_of_utc() -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=5)))
    condition = Condition(type="Ready", status="True", reason="Up", last_transition_time=east)
    assert condition.to_dict()["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_the_zero_time_of_go_has_all_its_zeros() -> None:
    wire = {"type": "Ready", "status": "Unknown", "reason": "", "lastTransitionTime": "0001-01-01T00:00:00Z"}
    assert Condition.model_validate(wire).to_dict() == wire


def test_micro_times_have_six_decimals_even_when_they_are_zeros() -> None:
    spec = LeaseSpec(renew_time=MOMENT, acquire_time=MOMENT.replace(microsecond=0))
    assert spec.to_dict() == {
        "renewTime": "2026-01-02T03:04:05.678901Z",
        "acquireTime": "2026-01-02T03:04:05.000000Z",
    }


def test_a_lease_that_nobody_holds_any_more_is_readable() -> None:
    lease = Lease.model_validate_json('{"metadata":{"name":"l"},"spec":{"holderIdentity":"","renewTime":null}}')
    assert lease.spec.renew_time is None


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Condition(type="Ready", status="True", reason="Up", last_transition_time=MOMENT.replace(tzinfo=None))

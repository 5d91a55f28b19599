"""Conditions as pure functions: setting one, reading one, and roots that sum up others, as Karpenter computes them.

A list of conditions is a tuple, sorted by type, so that two writers of the same facts write the same list. Times are
cut to the second, as the wire has them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from kaito.kube.meta_v1 import Condition

MAX_TYPE = 316
MAX_REASON = 1024
MAX_MESSAGE = 32_768

_TYPE = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
)
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")


class ConditionLike(Protocol):
    """What `kaito.kube.meta_v1.Condition`, and any kind's own condition model, has."""

    @property
    def type(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def message(self) -> str | None: ...
    @property
    def last_transition_time(self) -> datetime | None: ...

    @classmethod
    def model_validate(cls, obj: Any) -> Self: ...
    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self: ...


C = TypeVar("C", bound=ConditionLike)


def find(conditions: Iterable[C], condition_type: str) -> C | None:
    """Returns the condition of a type, or None."""
    return next((condition for condition in conditions if condition.type == condition_type), None)


def is_true(conditions: Iterable[ConditionLike], condition_type: str) -> bool:
    """Whether the condition is there and True."""
    condition = find(conditions, condition_type)
    return condition is not None and condition.status == "True"


def set_condition(conditions: Iterable[C], new: C, now: datetime) -> tuple[C, ...]:
    """Puts a condition in the place of the one of its type; follows apimachinery's ``SetStatusCondition``.

    Args:
        conditions: the list as it is; not changed.
        new: the condition to set. Its ``last_transition_time``, where given, counts when the status changes.
        now: the time of the transition, should the status change.

    Returns:
        The list with the new condition in it, sorted by type. ``last_transition_time`` moves only with the status. A
        message that is longer than the API takes is cut.

    Raises:
        ValueError: type or reason are none that the API takes.
    """
    new = _checked(new)
    others = [condition for condition in conditions if condition.type != new.type]
    old = find(conditions, new.type)
    moment = _second(new.last_transition_time or now)
    if old is not None and old.status == new.status:
        moment = old.last_transition_time or moment
    return _sorted([*others, new.model_copy(update={"last_transition_time": moment})])


def remove_condition(conditions: Iterable[C], condition_type: str) -> tuple[C, ...]:
    """Returns the list without the condition of a type."""
    return tuple(condition for condition in conditions if condition.type != condition_type)


def same_conditions(one: Iterable[ConditionLike], other: Iterable[ConditionLike]) -> bool:
    """Whether two lists say the same, whenever they came to say it and in whatever order.

    A controller that patches for a difference in ``last_transition_time`` alone wakes itself up for ever.
    """
    return _timeless(one) == _timeless(other)


class Verdict(NamedTuple):
    """What a root condition says."""

    status: str
    reason: str
    message: str = ""


RootRule = Callable[[str, Sequence[ConditionLike]], Verdict]
"""Computes a root's verdict from its type and its dependents; one that is stale or missing comes as Unknown."""


def karpenter_root(root: str, dependents: Sequence[ConditionLike]) -> Verdict:
    """Karpenter v1's rule: the root names every dependent that is not True."""
    unmet = [dependent for dependent in dependents if dependent.status != "True"]
    message = ", ".join(f"{dependent.type}={dependent.status}" for dependent in unmet)
    if not unmet:
        return Verdict("True", root)
    if any(dependent.status == "False" for dependent in unmet):
        return Verdict("False", "UnhealthyDependents", message)
    return Verdict("Unknown", "ReconcilingDependents", message)


def knative_root(root: str, dependents: Sequence[ConditionLike]) -> Verdict:
    """The rule of the Machine era: the root copies why the first dependent is False, else why one is Unknown."""
    for status in ("False", "Unknown"):
        worst = next((dependent for dependent in dependents if dependent.status == status), None)
        if worst is not None:
            return Verdict(status, worst.reason or "", worst.message or "")
    return Verdict("True", root)


@dataclass(frozen=True)
class ConditionSet(Generic[C]):
    """A root condition and the dependents that it sums up.

    Attributes:
        model: the kind's condition class.
        root: the root's type, such as ``Ready``.
        dependents: types that the root stands on, in the order in which they are met.
        rule: how the root follows from them.
    """

    model: type[C]
    root: str
    dependents: tuple[str, ...]
    rule: RootRule = karpenter_root

    def initialize(self, conditions: Sequence[C], created: datetime, generation: int | None = None) -> tuple[C, ...]:
        """Adds each missing dependent as Unknown since the object's creation, then recomputes the root."""
        missing = [name for name in self.dependents if find(conditions, name) is None]
        awaiting = Verdict("Unknown", "AwaitingReconciliation", "object is awaiting reconciliation")
        added = [self._condition(name, awaiting, generation, created) for name in missing]
        return self._with_root([*conditions, *added], created, generation)

    def set(
        self,
        conditions: Sequence[C],
        condition_type: str,
        verdict: Verdict,
        now: datetime,
        generation: int | None = None,
    ) -> tuple[C, ...]:
        """Sets one condition, dependent or not, then recomputes the root."""
        new = self._condition(condition_type, verdict, generation, None)
        return self._with_root(set_condition(conditions, new, now), now, generation)

    def set_true(
        self, conditions: Sequence[C], condition_type: str, now: datetime, generation: int | None = None
    ) -> tuple[C, ...]:
        """Sets one condition True, its type for a reason, then recomputes the root."""
        return self.set(conditions, condition_type, Verdict("True", condition_type), now, generation)

    def overrule(
        self, conditions: Sequence[C], verdict: Verdict, now: datetime, generation: int | None = None
    ) -> tuple[C, ...]:
        """Has the root say what its dependents do not tell; it holds until one of them is set again."""
        return self._root_last(set_condition(conditions, self._condition(self.root, verdict, generation, None), now))

    def _with_root(self, conditions: Sequence[C], now: datetime, generation: int | None) -> tuple[C, ...]:
        dependents = [self._current(find(conditions, name), name, generation) for name in self.dependents]
        root = self._condition(self.root, self.rule(self.root, dependents), generation, None)
        return self._root_last(set_condition(conditions, root, now))

    def _current(self, condition: C | None, name: str, generation: int | None) -> C:
        if condition is None:
            return self._condition(name, Verdict("Unknown", "AwaitingReconciliation"), generation, None)
        observed = getattr(condition, "observed_generation", None)
        if generation is None or observed is None or observed >= generation:
            return condition
        return condition.model_copy(update={"status": "Unknown"})

    def _condition(self, name: str, verdict: Verdict, generation: int | None, since: datetime | None) -> C:
        fields: dict[str, object] = {"type": name, **verdict._asdict()}
        if since is not None:
            fields["last_transition_time"] = _second(since)
        if generation is not None and "observed_generation" in getattr(self.model, "model_fields", ()):
            fields["observed_generation"] = generation
        return self.model.model_validate(fields)

    def _root_last(self, conditions: Iterable[C]) -> tuple[C, ...]:
        return tuple(sorted(conditions, key=lambda condition: (condition.type == self.root, condition.type)))


def _checked(condition: C) -> C:
    """apimachinery's rules of metav1.Condition; kinds with conditions of their own may leave reason and message out."""
    if not _TYPE.fullmatch(condition.type) or len(condition.type) > MAX_TYPE:
        raise ValueError(f"condition type {condition.type!r}: expected a name such as Ready or example.com/Ready")
    reason = condition.reason
    is_empty_well = reason is None or (reason == "" and not isinstance(condition, Condition))
    if not is_empty_well and (not _REASON.fullmatch(reason or "") or len(reason or "") > MAX_REASON):
        raise ValueError(
            f"condition {condition.type}: reason is {reason!r}; expected CamelCase, 1 to {MAX_REASON} long"
        )
    message = condition.message or ""
    if len(message) > MAX_MESSAGE:
        return condition.model_copy(update={"message": message[: MAX_MESSAGE - 1] + "…"})
    return condition


def _sorted(conditions: Iterable[C]) -> tuple[C, ...]:
    return tuple(sorted(conditions, key=lambda condition: condition.type))


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _timeless(conditions: Iterable[ConditionLike]) -> dict[str, ConditionLike]:
    return {condition.type: condition.model_copy(update={"last_transition_time": None}) for condition in conditions}

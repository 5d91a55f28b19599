"""Webhook: a kind and what is checked and filled in when somebody writes it; validators and defaulters, typed."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

from pydantic import ValidationError

from kaito.kube.meta_v1 import LabelSelector
from kaito.kube.resource import Resource, ResourceType
from kaito.runtime.webhook.denial import Denied, OldUnreadable, unreadable
from kaito.runtime.webhook.patches import carried_over, difference
from kaito.runtime.webhook.request import AdmissionRequest

R = TypeVar("R", bound=Resource)
R_contra = TypeVar("R_contra", bound=Resource, contravariant=True)

Warnings = Sequence[str] | None
"""What a validator may return: texts for the user. They do not refuse anything; `Denied` does."""
Verdict = Warnings | Awaitable[Warnings]
ValidateFunction = Callable[[R, AdmissionRequest], Verdict]
DefaultFunction = Callable[[R, AdmissionRequest], Awaitable[None] | None]
Patch = list[dict[str, Any]]

AdmittedOperation = Literal["CREATE", "UPDATE", "DELETE"]
FailurePolicy = Literal["Fail", "Ignore"]
SideEffects = Literal["None", "NoneOnDryRun"]
Role = Literal["validate", "mutate"]

_OPERATIONS = ("CREATE", "UPDATE", "DELETE")
_DEFAULT_OPERATIONS: tuple[AdmittedOperation, ...] = ("CREATE", "UPDATE")


class Validator(Protocol[R_contra]):
    """Checks a kind, each operation by a method of its own; subclasses write those they need, plain or async.

    Each returns warnings for the user or None, and raises `Denied` to refuse.
    """

    def validate_create(self, obj: R_contra, request: AdmissionRequest, /) -> Verdict:
        """Checks an object that is new."""
        return None

    def validate_update(self, old: R_contra, new: R_contra, request: AdmissionRequest, /) -> Verdict:
        """Checks a change."""
        return None

    def validate_delete(self, old: R_contra, request: AdmissionRequest, /) -> Verdict:
        """Checks the deletion of an object."""
        return None


class Defaulter(Protocol[R_contra]):
    """Fills in what is missing, by writing to a draft (see `KubeModel.edit`); plain or async."""

    def default(self, draft: R_contra, request: AdmissionRequest, /) -> Awaitable[None] | None:
        """Writes to the draft. What it does not assign stays as it came, unknown fields and their order included."""
        ...


class MatchCondition(NamedTuple):
    """A CEL expression that the API server evaluates before it calls; false: the webhook is not asked.

    Attributes:
        name: unique within the webhook.
        expression: over ``object``, ``oldObject``, ``request`` and ``authorizer``.
    """

    name: str
    expression: str


class Webhook:
    """A kind, and what is checked and filled in when somebody writes it.

    Args:
        kind: the class. In the version that it declares, whichever the user wrote: the API server converts.
        validate: a `Validator`, or a function of the object (on DELETE: the old one) and the request.
        default: a `Defaulter`, or a function of a draft and the request.
        operations: which; default CREATE and UPDATE, and DELETE for a `Validator` that has ``validate_delete``.
            Defaulters are never asked on DELETE.
        subresources: whose writes are admitted, too, such as ``status``; they must have the object's own kind.
        match_conditions: when to ask at all, beside what the next two say.
        skip_deleting: let objects pass whose deletion has begun, so that no rule can hold finalizers up.
        skip_own: let the manager's own ServiceAccount pass, so that it cannot lock itself out.
        failure_policy: what the API server does when it gets no answer, or our code raised: ``Fail`` or ``Ignore``.
        timeout_s: how long the API server waits, 1 to 30 whole seconds; we give up, and say so, a little earlier.
        side_effects: ``NoneOnDryRun`` for code that has effects elsewhere, and looks at ``request.dry_run``.
        namespace_selector: only objects in namespaces with such labels.
        object_selector: only objects with such labels. Whoever writes the object chooses these.

    Raises:
        ValueError: there is neither validate nor default, or an argument is not allowed.
    """

    def __init__(
        self,
        kind: type[R],
        *,
        validate: Validator[R] | ValidateFunction[R] | None = None,
        default: Defaulter[R] | DefaultFunction[R] | None = None,
        operations: Sequence[AdmittedOperation] = (),
        subresources: Sequence[str] = (),
        match_conditions: Sequence[MatchCondition] = (),
        skip_deleting: bool = True,
        skip_own: bool = True,
        failure_policy: FailurePolicy = "Fail",
        timeout_s: int = 10,
        side_effects: SideEffects = "None",
        namespace_selector: LabelSelector = LabelSelector(),
        object_selector: LabelSelector = LabelSelector(),
    ) -> None:
        self.kind: type[Resource] = kind
        self.operations = tuple(operations) or _operations_of(validate)
        self.subresources = tuple(subresources)
        self.match_conditions = tuple(match_conditions)
        self.skip_deleting = skip_deleting
        self.skip_own = skip_own
        self.failure_policy: FailurePolicy = failure_policy
        self.timeout_s = timeout_s
        self.side_effects: SideEffects = side_effects
        self.namespace_selector = namespace_selector
        self.object_selector = object_selector
        self.parts: Mapping[Role, Part] = _parts(kind, validate, default)
        self._check(validate, default)

    @property
    def place(self) -> ResourceType:
        """Where the kind lives."""
        return self.kind.resource_type

    def operations_for(self, role: Role) -> tuple[AdmittedOperation, ...]:
        """What it is asked about in a role."""
        return tuple(one for one in self.operations if role == "validate" or one != "DELETE")

    def path(self, role: Role) -> str:
        """Where it is served; controller-runtime's paths: ``/validate-example-com-v1-widget``."""
        place = self.place
        return f"/{role}-{place.group.replace('.', '-')}-{place.version}-{place.kind.lower()}"

    def _check(self, validate: object, default: object) -> None:
        what = f"Webhook of {self.place.group_kind}"
        for argument, given in (("validate", validate), ("default", default)):
            if inspect.isclass(given):
                raise ValueError(f"{what}: {argument}= is the class {given.__name__}; give an instance of it")
        if not self.parts:
            raise ValueError(f"{what}: give validate=, default= or both")
        if unknown := [one for one in self.operations if one not in _OPERATIONS]:
            raise ValueError(f"{what}: operations {unknown}: expected some of {', '.join(_OPERATIONS)}")
        if "mutate" in self.parts and not self.operations_for("mutate"):
            raise ValueError(f"{what}: default= needs CREATE or UPDATE among operations, got {list(self.operations)}")
        if not 1 <= self.timeout_s <= 30:
            raise ValueError(f"{what}: timeout_s {self.timeout_s}: expected 1 to 30, as the API server does")
        if self.failure_policy not in ("Fail", "Ignore"):
            raise ValueError(f"{what}: failure_policy {self.failure_policy!r}: expected Fail or Ignore")
        if self.side_effects not in ("None", "NoneOnDryRun"):
            raise ValueError(f"{what}: side_effects {self.side_effects!r}: expected None or NoneOnDryRun")


class Part(Protocol):
    """What a webhook does in one role."""

    async def __call__(self, request: AdmissionRequest) -> Patch:
        """Judges; returns what is to be changed.

        Raises:
            Denied: it is refused.
        """
        ...


class _Validating:
    def __init__(self, kind: type[Resource], validate: Validator[Resource] | ValidateFunction[Resource]) -> None:
        self._kind = kind
        self._ask = validate if callable(validate) else None
        self._validator = None if callable(validate) else validate

    async def __call__(self, request: AdmissionRequest) -> Patch:
        try:
            warnings = await self._warnings(request)
        except OldUnreadable:
            if request.operation != "UPDATE":
                raise
            # What was stored by an older schema could otherwise never be mended.
            request.becomes_create()
            warnings = await self._warnings(request)
        request.warnings += [warnings] if isinstance(warnings, str) else warnings or ()
        return []

    async def _warnings(self, request: AdmissionRequest) -> Warnings:
        verdict = self._verdict(request)
        return await verdict if inspect.isawaitable(verdict) else verdict

    def _verdict(self, request: AdmissionRequest) -> Verdict:
        if request.operation == "DELETE":
            return self._of_deletion(request)
        new = request.object(self._kind)
        if self._validator is None:
            return cast("ValidateFunction[Resource]", self._ask)(new, request)
        if request.operation == "CREATE":
            return self._validator.validate_create(new, request)
        return self._validator.validate_update(request.old(self._kind), new, request)

    def _of_deletion(self, request: AdmissionRequest) -> Verdict:
        try:
            old = request.old(self._kind)
        except Denied as error:
            # Nothing that cannot be read should be there for ever.
            return [f"deleted unchecked, since it cannot be read: {error}"]
        if self._validator is None:
            return cast("ValidateFunction[Resource]", self._ask)(old, request)
        return self._validator.validate_delete(old, request)


class _Defaulting:
    def __init__(self, kind: type[Resource], default: DefaultFunction[Resource]) -> None:
        self._kind = kind
        self._default = default

    async def __call__(self, request: AdmissionRequest) -> Patch:
        try:
            return await self._patch(request)
        except OldUnreadable:
            if request.operation != "UPDATE":
                raise
            request.becomes_create()
            return await self._patch(request)

    async def _patch(self, request: AdmissionRequest) -> Patch:
        obj = request.object(self._kind)
        draft = obj.edit()
        try:
            answer = self._default(draft, request)
            if answer is not None:
                await answer
        except ValidationError as error:
            raise RuntimeError(
                f"the defaulter assigned what the class refuses: {unreadable(error, show_values=False)}"
            ) from error
        raw = request.raw()
        return difference(raw, carried_over(raw, obj, draft))


def _parts(
    kind: type[R],
    validate: Validator[R] | ValidateFunction[R] | None,
    default: Defaulter[R] | DefaultFunction[R] | None,
) -> dict[Role, Part]:
    parts: dict[Role, Part] = {}
    if default is not None:
        function = default if callable(default) else default.default
        parts["mutate"] = _Defaulting(kind, cast("DefaultFunction[Resource]", function))
    if validate is not None:
        parts["validate"] = _Validating(kind, cast("Validator[Resource] | ValidateFunction[Resource]", validate))
    return parts


def _operations_of(validate: object) -> tuple[AdmittedOperation, ...]:
    deletes = getattr(type(validate), "validate_delete", None)
    return _DEFAULT_OPERATIONS if deletes in (None, Validator.validate_delete) else (*_DEFAULT_OPERATIONS, "DELETE")

"""Endpoint: one webhook in one role; the body of a review in, the body of an answer out, whatever its code does."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kaito.runtime.logs import log_context
from kaito.runtime.webhook import denial, review
from kaito.runtime.webhook.admission import Patch, Role, Webhook
from kaito.runtime.webhook.denial import Denied
from kaito.runtime.webhook.metrics import EndpointMetrics, WebhookMetrics
from kaito.runtime.webhook.request import AdmissionRequest

log = logging.getLogger(__name__)

LIMIT_BYTES = 7 * 1024 * 1024
"""The largest review that is read; the API server's own objects are smaller, and controller-runtime's limit is this."""

_WARNING_CHARACTERS = 256
_WARNINGS_CHARACTERS = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f\s]+")
_MOST_MARGIN_S = 0.5


class Answer(NamedTuple):
    """An HTTP answer: its code, its body, and whether the body is JSON or a sentence."""

    code: int
    body: bytes
    content_type: str = "application/json"

    @classmethod
    def sentence(cls, code: int, text: str) -> Answer:
        """An answer for people."""
        return cls(code, f"{text}\n".encode(), "text/plain")


class Served(Protocol):
    """What a server serves at a path: bodies in, answers out.

    Attributes:
        path: where.
        limit_bytes: the largest body that is read.
        metrics: of the path.
        own_user: the user name that the manager's own requests come with; empty: not known.
    """

    path: str
    limit_bytes: int
    metrics: EndpointMetrics
    own_user: str

    async def answer(self, body: bytes, timeout_s: float | None = None) -> Answer:
        """Answers a body; raises nothing but a cancellation."""
        ...

    async def aclose(self) -> None:
        """Waits for what is left of answers that were given up."""
        ...


class _Failed(Exception):
    """Our own code did not come to a verdict."""

    def __init__(self, message: str, code: int, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Endpoint:
    """One webhook in one role.

    Args:
        webhook: which.
        role: validate or mutate.
        metrics: the server's.

    Attributes:
        own_user: the user name that the manager's own requests come with; empty: not known.
    """

    def __init__(self, webhook: Webhook, role: Role, metrics: WebhookMetrics) -> None:
        self.webhook = webhook
        self.path = webhook.path(role)
        self.limit_bytes = LIMIT_BYTES
        self.metrics = EndpointMetrics(metrics, self.path)
        self.own_user = ""
        self._operations = webhook.operations_for(role)
        self._part = webhook.parts[role]
        self._abandoned: set[asyncio.Task[Patch]] = set()

    async def answer(self, body: bytes, timeout_s: float | None = None) -> Answer:
        """Answers a review; raises nothing but a cancellation.

        Args:
            body: the AdmissionReview.
            timeout_s: how long the API server says that it waits, if it does.
        """
        try:
            asked = review.read(body)
            request = AdmissionRequest(asked.request)
        except review.BadReview as error:
            return Answer.sentence(400, str(error))
        with log_context(**self._fields(request)):
            return await self._answer(asked, request, self._limit_s(timeout_s))

    async def _answer(self, asked: review.Review, request: AdmissionRequest, limit_s: float) -> Answer:
        response, patch = review.Response(request.uid, True), []
        try:
            patch = await self._patch(request, limit_s)
        except Denied as denied:
            response.allowed = False
            response.status = denial.status_of(denied, self.webhook.place, request.key.name)
            log.info("request denied", extra={"reason": denied.reason, "why": denied.message})
        except _Failed as error:
            status = denial.failure(str(error), error.code, error.reason)
            if self.webhook.failure_policy == "Ignore":
                # In a review it would be a refusal, whatever the policy; so it is none.
                return Answer.sentence(500, str(error))
            response.allowed, response.status = False, status
        try:
            response.warnings = _cut(request.warnings)
            response.audit_annotations = {name: str(value) for name, value in request.audit_annotations.items()}
            if patch:
                response.patch, response.patch_type = review.encoded_patch(patch), "JSONPatch"
            return Answer(200, review.answer(asked, response))
        except Exception as error:
            self.metrics.panics.inc()
            log.exception("webhook said what no answer can hold")
            text = f"webhook {self.path}: its code said what no answer can hold ({type(error).__name__}); see the log"
            return Answer.sentence(500, text)

    async def _patch(self, request: AdmissionRequest, limit_s: float) -> Patch:
        if not self._concerns(request):
            return []
        task = asyncio.create_task(self._part(request), name=f"webhook {self.path}")
        try:
            done, _ = await asyncio.wait({task}, timeout=limit_s)
        finally:
            if not task.done():
                self._abandon(task)
        if not done:
            log.error("webhook timed out", extra={"limit_s": limit_s})
            raise _Failed(f"webhook {self.path}: no verdict within {limit_s:.1f} s; try again", 504, "Timeout")
        return self._verdict(task)

    def _verdict(self, task: asyncio.Task[Patch]) -> Patch:
        try:
            return task.result()
        except Denied:
            raise
        except (Exception, asyncio.CancelledError) as error:
            self.metrics.panics.inc()
            log.exception("webhook failed")
            raise _Failed(
                f"webhook {self.path}: its code failed with {type(error).__name__}; see the manager's log",
                500,
                "InternalError",
            ) from error

    def _abandon(self, task: asyncio.Task[Patch]) -> None:
        """Cancels without waiting: code that holds on would hold the user up, too."""
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Patch]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("webhook that was given up ended", exc_info=error)

    async def aclose(self) -> None:
        """Waits for code that was given up, and ends when cancelled."""
        while self._abandoned:
            await asyncio.wait(set(self._abandoned))

    def _concerns(self, request: AdmissionRequest) -> bool:
        """Whether it is ours to judge; what else comes is let through: the rules may be somebody else's."""
        webhook = self.webhook
        if request.operation not in self._operations:
            return False
        if request.subresource and request.subresource not in webhook.subresources:
            return False
        if webhook.skip_own and self.own_user and request.user.username == self.own_user:
            return False
        if webhook.skip_deleting and request.deletion_started:
            return False
        place, kind = webhook.place, request.kind
        if (kind.group, kind.version, kind.kind) != (place.group, place.version, place.kind):
            raise Denied(
                message=f"webhook {self.path} is for {place.kind} of {place.api_version} and was asked about "
                f"{kind.kind} of {kind.group}/{kind.version}; correct the rules of the webhook configuration",
                reason="BadRequest",
            )
        if request.lacks_object:
            raise Denied(message=f"webhook {self.path}: the {request.operation} has no object", reason="BadRequest")
        return True

    def _limit_s(self, asked_s: float | None) -> float:
        """A little less than the API server waits, so that its user reads our sentence and not that it gave up."""
        limit_s = float(self.webhook.timeout_s)
        if asked_s is not None and asked_s > 0:
            limit_s = min(limit_s, asked_s)
        return limit_s - min(_MOST_MARGIN_S, limit_s / 10)

    def _fields(self, request: AdmissionRequest) -> dict[str, object]:
        return {
            "webhook": self.path,
            "namespace": request.key.namespace or "",
            "name": request.key.name,
            "operation": request.operation,
            "user": request.user.username,
            "request_id": request.uid,
        }


def _cut(warnings: Sequence[str]) -> list[str]:
    """Warnings as HTTP headers can carry them: one line each, and not too long."""
    kept: list[str] = []
    left = _WARNINGS_CHARACTERS
    for number, warning in enumerate(warnings):
        text = _CONTROL.sub(" ", warning).strip()
        text = text if len(text) <= _WARNING_CHARACTERS else f"{text[: _WARNING_CHARACTERS - 1]}…"
        if len(text) > left - 40:
            return [*kept, f"and {len(warnings) - number} more warnings"]
        kept.append(text)
        left -= len(text)
    return kept

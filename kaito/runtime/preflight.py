"""Preflight: asks the API server, beside the start, whether all is allowed that was declared, and names what is not."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from kaito.client.client import Client
from kaito.client.errors import (
    ApiError,
    KubeError,
    NotFound,
    ServerTimeout,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
    Unauthorized,
)
from kaito.kube.authentication_v1 import SelfSubjectReview
from kaito.kube.authorization_v1 import ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec
from kaito.runtime.rbac import Grant, Need, grants_of
from kaito.runtime.service import Service, Stage

log = logging.getLogger(__name__)

CONCURRENCY = 4
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 15.0
NAMED = 3
"""How many of the missing permissions a readiness message names."""

_ACCOUNT = "system:serviceaccount:"
_EVERYTHING = Grant("", "*", "*", "", "", "*")
_NO_ANSWER = (TransportError, ServiceUnavailable, ServerTimeout, TooManyRequests)


class Preflight(Service):
    """Checks permissions at the start, by SelfSubjectAccessReviews, and again while some are missing.

    What is missing is logged once, a line each, and makes the manager not ready, as ``permissions``; it heals by itself
    when it is granted. Nothing waits for the check, and what an API server that does not answer would have said is
    asked again. One that has no such reviews is taken to allow everything.

    Args:
        client: asks.
        needs: what is needed; asked for when it runs.
        remedy: how it is granted, in words; may be set until it runs.
        rng: source of jitter.
    """

    stage = Stage.CACHES

    def __init__(
        self,
        client: Client,
        needs: Callable[[], Iterable[Need]],
        *,
        remedy: str = "grant it by a Role or ClusterRole and a binding",
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._needs = needs
        self.remedy = remedy
        self._rng = rng or random.Random()
        self._who = ""
        self._missing: Mapping[Grant, tuple[str, ...]] = {}
        self._refused = ""

    @property
    def name(self) -> str:
        """See `Service.name`."""
        return "permissions"

    @property
    def missing(self) -> Mapping[Grant, tuple[str, ...]]:
        """What is known to be missing, and who needs it."""
        return self._missing

    def fault(self) -> str | None:
        """Names the first of what is missing. See `Service.fault`."""
        if self._refused:
            return f"cannot be checked, since the credentials are refused: {self._refused}"
        lines = _lines(self._who, self._missing)
        if not lines:
            return None
        more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
        return "; ".join(lines[:NAMED]) + more

    async def run(self) -> None:
        """Returns once everything is allowed."""
        asked: Mapping[Grant, tuple[str, ...]] = grants_of(self._needs())
        wait_s = FIRST_WAIT_S
        while True:
            try:
                missing = await self._look(asked)
            except _NO_ANSWER as error:
                log.info("permissions cannot be checked yet", extra={"error": str(error)})
            except Unauthorized as error:
                self._refused = str(error)
                log.warning("permissions cannot be checked: the credentials are refused", extra={"error": str(error)})
            except NotFound as error:
                log.info("permissions cannot be checked: there are no access reviews", extra={"error": str(error)})
                return
            except KubeError as error:
                log.warning("permissions cannot be checked", extra={"error": str(error)})
                return
            else:
                self._refused = ""
                self._tell(missing)
                if not missing:
                    return
                asked = missing
            await asyncio.sleep(wait_s * (1 + 0.25 * self._rng.random()))
            wait_s = min(MAX_WAIT_S, wait_s * 2)

    async def _look(self, asked: Mapping[Grant, tuple[str, ...]]) -> Mapping[Grant, tuple[str, ...]]:
        """Which of the permissions are missing."""
        # An administrator is found out with one question.
        if await self._allowed(_EVERYTHING):
            return {}
        places = asyncio.Semaphore(CONCURRENCY)

        async def allowed(grant: Grant) -> bool:
            async with places:
                return await self._allowed(grant)

        try:
            async with asyncio.TaskGroup() as group:
                answers = {grant: group.create_task(allowed(grant)) for grant in asked}
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        missing = {grant: asked[grant] for grant, answer in answers.items() if not answer.result()}
        if missing and not self._who:
            self._who = await self._whoami()
        return missing

    async def _allowed(self, grant: Grant) -> bool:
        wanted = {name: value for name, value in grant._asdict().items() if value}
        spec = SelfSubjectAccessReviewSpec(resource_attributes=ResourceAttributes.model_validate(wanted))
        return (await self._client.create(SelfSubjectAccessReview(spec=spec))).status.allowed

    async def _whoami(self) -> str:
        try:
            name = (await self._client.create(SelfSubjectReview())).status.user_info.username
        except ApiError:
            return "this process"
        if name.startswith(_ACCOUNT):
            return "ServiceAccount " + name.removeprefix(_ACCOUNT).replace(":", "/")
        return f"user {name}"

    def _tell(self, missing: Mapping[Grant, tuple[str, ...]]) -> None:
        before, self._missing = self._missing, missing
        new = {grant: by for grant, by in missing.items() if grant not in before}
        for line in _lines(self._who, new):
            log.error("permission missing", extra={"error": f"{line}; {self.remedy}"})
        if before and not missing:
            log.info("all permissions are granted now")


def _lines(who: str, missing: Mapping[Grant, tuple[str, ...]]) -> list[str]:
    """A line for each resource and who needs it: the verbs of one stand together."""
    verbs: dict[tuple[Grant, tuple[str, ...]], list[str]] = defaultdict(list)
    for grant, by in missing.items():
        verbs[grant._replace(verb=""), by].append(grant.verb)
    return [
        f"{who} may not {', '.join(found)}{grant}: needed by {', '.join(by)}" for (grant, by), found in verbs.items()
    ]

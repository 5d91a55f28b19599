"""Counts the requests that are on their way to vLLM: refuses too many, waits for all, ends all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence

from kaito.inference.errors import Overloaded, RequestTimeout
from kaito.inference.options import Limits

_RETRY_AFTER_S = 2


class Aborted(Exception):
    """The request was ended since the server stops."""


class Admitted:
    """One request on its way; whoever got it calls `leave`."""

    def __init__(self, admission: Admission, tokens: int, timeout_s: float) -> None:
        self.tokens = tokens
        self._admission = admission
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._timer: asyncio.Timeout | None = None
        self._aborted = False

    def leave(self) -> None:
        """It is over, however it ended. May be called again."""
        self._admission.forget(self)

    def abort(self) -> None:
        """Ends what is within `timed`, now or as soon as something is."""
        self._aborted = True
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def timed(self) -> AsyncIterator[None]:
        """Within it, waiting ends when the request's time is over, or it is aborted.

        Raises:
            RequestTimeout: It took longer than a request may take.
            Aborted: `abort` was called.
        """
        try:
            async with asyncio.timeout_at(0 if self._aborted else self._deadline) as timer:
                self._timer = timer
                try:
                    yield
                finally:
                    self._timer = None
        except TimeoutError:
            if self._aborted:
                raise Aborted from None
            raise RequestTimeout(
                f"the request took longer than {self._timeout_s:g} s, which is the most here; ask for fewer tokens"
            ) from None


class Admission:
    """All that are on their way. `waiting` is what vLLM itself says of its queue, and is set from outside."""

    def __init__(self, limits: Limits, max_num_seqs: int) -> None:
        self.waiting = 0
        self._limits, self._max_num_seqs = limits, max_num_seqs
        self._pending: dict[Admitted, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._pending)

    def enter(self, tokens: Sequence[int]) -> list[Admitted]:
        """Lets requests in, all of them or none.

        Args:
            tokens: of the prompt of each, roughly.

        Raises:
            Overloaded: As much waits as may wait.
        """
        limits = self._limits
        waiting = max(self.waiting, len(self._pending) + len(tokens) - self._max_num_seqs)
        if waiting > limits.max_waiting:
            raise Overloaded(
                f"{limits.max_waiting} requests may wait, and with this one {waiting} would; try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        known = itertools.chain((each.tokens for each in self._pending), tokens)
        queued = sum(itertools.islice(known, self._max_num_seqs, None))
        if queued > limits.max_waiting_tokens:
            raise Overloaded(
                f"requests of {limits.max_waiting_tokens} prompt tokens may wait, and with this one about {queued} "
                "would; try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        admitted = [Admitted(self, count, limits.request_timeout_s) for count in tokens]
        self._pending.update(dict.fromkeys(admitted))
        if admitted:
            self._idle.clear()
        return admitted

    def forget(self, admitted: Admitted) -> None:
        """For `Admitted.leave`."""
        self._pending.pop(admitted, None)
        if not self._pending:
            self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Waits until none is on its way; aborts those that take longer and waits for them to leave."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        for each in list(self._pending):
            each.abort()
        await self._idle.wait()

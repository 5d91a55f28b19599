"""The life of the server's process: listening, loading, serving, draining."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

import uvicorn

from kaito.inference.errors import StartError
from kaito.inference.flags import PROGRAM
from kaito.inference.http import make_app
from kaito.inference.http.protocol import LimitedHttp
from kaito.inference.http.settings import HttpSettings
from kaito.inference.logs import configure_logging
from kaito.inference.metrics import Metrics
from kaito.inference.options import Options
from kaito.inference.runtime import Runtime
from kaito.inference.starting import make_runtime

# After the last token: answers that are still on their way to slow clients.
_SEND_S = 5
# The second signal wants an end, but a child process should not outlive this one.
_CLOSE_S = 2.0

_log = logging.getLogger(__name__)


def run(options: Options, listener: socket.socket) -> int:
    """Serves until a signal; returns the exit status.

    Args:
        options: what to serve and how.
        listener: a socket that listens already, closed in the end.
    """
    configure_logging(options.server)
    metrics = Metrics()
    try:
        runtime = make_runtime(options, metrics)
    except StartError as error:
        return _cannot_start(error)
    settings = HttpSettings(options.limits, options.server.api_keys, metrics)
    server = _Server(
        uvicorn.Config(
            make_app(runtime, settings),
            http=LimitedHttp,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_SEND_S,
        )
    )
    process = Process(runtime, server, listener, metrics, options)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        status = runner.run(process.run())
        if process.busy:
            # A thread that loads a model cannot be stopped, and the end of the loop would wait for it.
            _exit_now(status)
    return status


class Process:
    """One server from its start to its end."""

    def __init__(
        self, runtime: Runtime, server: uvicorn.Server, listener: socket.socket, metrics: Metrics, options: Options
    ) -> None:
        self._runtime, self._server, self._listener, self._metrics = runtime, server, listener, metrics
        self._drain_s, self._slots = options.limits.drain_s, options.engine.max_num_seqs
        self._signals: list[signal.Signals] = []
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self.busy = False

    async def run(self) -> int:
        """Serves until a signal; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        forced = asyncio.create_task(self._force.wait())
        working = asyncio.create_task(self._serve())
        await asyncio.wait((forced, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await self._give_up()
        forced.cancel()
        return await working

    async def _serve(self) -> int:
        host, port = self._listener.getsockname()[:2]
        _log.info("listening", extra={"host": host, "port": port})
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        try:
            if not await self._load():
                return 1
            await self._stop.wait()
            await self._drain()
        finally:
            self._server.should_exit = True
            await serving
            await self._close(_CLOSE_S if self.busy else None)
        _log.info("stopped")
        return 0

    async def _load(self) -> bool:
        """Returns whether to go on; a signal that comes while loading ends it well."""
        started = time.perf_counter()
        loading = asyncio.create_task(self._runtime.load())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            self.busy = True
            return True
        try:
            loading.result()
        except StartError as error:
            _cannot_start(error)
            return False
        except Exception:
            _log.exception("the model could not be loaded")
            return False
        seconds = time.perf_counter() - started
        self._metrics.loaded(seconds)
        base, *adapters = self._runtime.models()
        if self._runtime.name == "transformers":
            # Others measure themselves.
            self._metrics.serve_engine(base.name, len(adapters), self._slots, base.max_model_len)
        names = [base.name, *(each.name for each in adapters)]
        _log.info("ready", extra={"runtime": self._runtime.name, "models": ",".join(names), "seconds": seconds})
        return True

    async def _drain(self) -> None:
        timeout_s = 0.0 if self.busy else self._drain_s
        _log.info("draining", extra={"signal": self._signals[0].name, "timeout_s": timeout_s})
        await self._runtime.drain(timeout_s)

    async def _close(self, timeout_s: float | None) -> None:
        try:
            await asyncio.wait_for(self._runtime.close(), timeout_s)
        except TimeoutError:
            _log.warning("the runtime was not closed in time", extra={"timeout_s": timeout_s})

    def _signalled(self, number: signal.Signals) -> None:
        self._signals.append(number)
        (self._force if self._stop.is_set() else self._stop).set()

    async def _give_up(self) -> None:
        _log.warning("stopping at once", extra={"signal": self._signals[-1].name})
        with contextlib.suppress(Exception):
            await self._close(_CLOSE_S)
        _exit_now(128 + self._signals[-1])


class _Server(uvicorn.Server):
    """Leaves the signals to `Process`, which drains before connections are closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _cannot_start(error: StartError) -> int:
    # To people, whatever form the log has; one line, so that the end of a Pod's log is the reason.
    print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return 1


def _exit_now(status: int) -> None:
    logging.shutdown()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)

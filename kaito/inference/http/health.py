"""Whether the server is alive, whether it is ready, and what it measures."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from kaito.inference.http.machine import cpu_info, gpu_info
from kaito.inference.http.settings import HttpSettings
from kaito.inference.metrics import merged
from kaito.inference.runtime import Runtime, State, WithMetrics

HEALTH_PATHS = frozenset({"/health", "/healthz", "/livez", "/readyz"})
"""Paths that need no API key: the kubelet has none."""

router = APIRouter(tags=["health"])


@router.head("/", include_in_schema=False)
@router.get("/")
async def root() -> dict[str, str]:
    """That the server runs, though perhaps not its model."""
    return {"message": "Server is running"}


@router.head("/health", include_in_schema=False)
@router.get("/health")
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def ready(request: Request) -> Response:
    """200 if requests are answered; 503 with the reason while loading, while stopping, and when the engine failed."""
    status = _runtime(request).status()
    return _health(status.state is State.READY, status.state, status.detail)


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def alive(request: Request) -> Response:
    """503 if only a restart helps: the engine failed."""
    status = _runtime(request).status()
    return _health(status.state is not State.FAILED, status.state, status.detail)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", tags=["metrics"])
async def metrics(request: Request) -> Response:
    """Prometheus's text; for `Accept: application/json` the load of GPUs or CPUs, as the first KAITO had it here."""
    if _prefers_json(request.headers.get("accept", "")):
        gpus = await asyncio.to_thread(gpu_info)
        return JSONResponse({"gpu_info": gpus, "cpu_info": None if gpus else cpu_info()})
    settings: HttpSettings = request.app.state.settings
    runtime = _runtime(request)
    settings.metrics.state(runtime.status().state)
    text = settings.metrics.render().decode()
    if isinstance(runtime, WithMetrics):
        text = merged(text, await runtime.metrics())
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _health(healthy: bool, state: State, detail: str) -> Response:
    content: dict[str, Any] = {"status": "Healthy" if state is State.READY else state.value}
    if detail and state is not State.READY:
        content["detail"] = detail
    return JSONResponse(content, 200 if healthy else 503)


def _prefers_json(accept: str) -> bool:
    # Prometheus itself asks for several kinds of text and then for anything.
    kinds = [each.split(";")[0].strip().lower() for each in accept.split(",")]
    return "application/json" in kinds and not any(
        kind.startswith(("text/", "application/openmetrics")) for kind in kinds
    )

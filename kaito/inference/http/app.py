"""Puts the routes together."""

from __future__ import annotations

from fastapi import FastAPI

from kaito.inference.http import chat, health, openai, vllm
from kaito.inference.http.access import Access
from kaito.inference.http.auth import ApiKeys
from kaito.inference.http.bodies import BodyLimits
from kaito.inference.http.errors import add_error_handlers
from kaito.inference.http.gate import Gate
from kaito.inference.http.settings import HttpSettings
from kaito.inference.runtime import Runtime


def make_app(runtime: Runtime, settings: HttpSettings) -> FastAPI:
    """The application of a runtime, which whoever serves it loads, drains and closes."""
    app = FastAPI(title="KAITO inference", docs_url=None, redoc_url=None)
    app.state.runtime, app.state.settings = runtime, settings
    add_error_handlers(app)
    app.include_router(health.router)
    app.include_router(chat.router)
    app.include_router(openai.models.router)
    app.include_router(vllm.router if runtime.name == "vllm" else openai.router)
    # The last one added is the outermost: who asks is known before anything is told, also that nothing is loaded yet.
    app.add_middleware(BodyLimits, limits=settings.limits)
    app.add_middleware(Gate, runtime=runtime)
    app.add_middleware(ApiKeys, keys=settings.api_keys)
    app.add_middleware(Access, metrics=settings.metrics)
    return app

"""Puts the routes together."""

from __future__ import annotations

from fastapi import FastAPI

from kaito.inference.http import chat
from kaito.inference.http.errors import add_error_handlers
from kaito.inference.http.settings import HttpSettings
from kaito.inference.runtime import Runtime


def make_app(runtime: Runtime, settings: HttpSettings) -> FastAPI:
    """The application of a runtime, which whoever serves it loads, drains and closes."""
    app = FastAPI(title="KAITO inference", docs_url=None, redoc_url=None)
    app.state.runtime, app.state.settings = runtime, settings
    add_error_handlers(app)
    app.include_router(chat.router)
    return app

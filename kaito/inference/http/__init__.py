"""The HTTP server: FastAPI routes over a runtime."""

from kaito.inference.http.app import make_app

__all__ = ["make_app"]

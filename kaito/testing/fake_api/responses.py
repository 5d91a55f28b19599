"""Responses: answers as bytes."""

from __future__ import annotations

import msgspec

from kaito.client.transport import Response
from kaito.testing.fake_api.failures import Failure, Json

JSON_TYPE = {"content-type": "application/json"}


def json_response(code: int, body: Json) -> Response:
    """An answer with an object in it."""
    return Response(code, JSON_TYPE, msgspec.json.encode(body))


def refusal(failure: Failure) -> Response:
    """The answer for a failure: its Status, and Retry-After if it says how long to wait."""
    response = json_response(failure.code, failure.status())
    wait_s = (failure.details or {}).get("retryAfterSeconds")
    headers = dict(response.headers) | ({} if wait_s is None else {"retry-after": str(wait_s)})
    return Response(response.status, headers, response.body)


def no_such_path() -> Response:
    """The answer where nothing is served: plain text, no Status."""
    return Response(404, {"content-type": "text/plain; charset=utf-8"}, b"404 page not found\n")

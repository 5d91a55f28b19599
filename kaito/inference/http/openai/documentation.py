"""What `/openapi.json` says about the answers of these routes."""

from __future__ import annotations

from typing import Any

from kaito.inference.http.openai.responses import ErrorAnswer

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is refused; `param` is the field at fault."},
    "5XX": {"model": ErrorAnswer, "description": "The model is loading, the server is stopping, or it has failed."},
}


def of(answer: Any, *, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    """The answers of a route.

    Args:
        answer: type of its body, where all went well.
        streams: whether it is sent as events if the request says so.
    """
    good: dict[str, Any] = {"model": answer, "description": "The answer."}
    if streams:
        good["content"] = {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'data: {"choices": [{"index": 0, "delta": {"content": "Yes"}}]}\n\ndata: [DONE]\n\n',
            }
        }
    return {200: good, **ERRORS}

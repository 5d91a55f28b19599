"""Answers: a body that says success becomes an object of its class, or an error that shows nothing of the body."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kaito.client.errors import not_from_an_api_server
from kaito.client.transport import Request, Response
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)


class _Object(msgspec.Struct, gc=False):
    metadata: dict[str, msgspec.Raw]


_decode = msgspec.json.Decoder(_Object).decode


def decoded(kind: type[R], request: Request, response: Response) -> R:
    """Reads the object that a verb was answered with.

    Raises:
        ApiError: it is no object of Kubernetes at all, but a login page, for one.
        pydantic.ValidationError: it is one that does not fit the class.
    """
    try:
        _decode(response.body)
    except msgspec.DecodeError as error:
        raise not_from_an_api_server(request, "object", error, response.body, response.headers) from error
    return kind.model_validate_json(response.body)

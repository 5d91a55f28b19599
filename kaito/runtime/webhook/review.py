"""AdmissionReview on the wire: what the API server asks and what it is answered; v1, and v1beta1 in kind."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
NOTHING = msgspec.Raw(b"null")

_API_VERSIONS = ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")


class BadReview(ValueError):
    """A body that is no AdmissionReview; the text says why."""


class GroupVersionKind(msgspec.Struct, frozen=True):
    """A kind by its full name."""

    group: str = ""
    version: str = ""
    kind: str = ""


class GroupVersionResource(msgspec.Struct, frozen=True):
    """A resource by its full name: the plural."""

    group: str = ""
    version: str = ""
    resource: str = ""


class WireRequest(msgspec.Struct, rename="camel"):
    """The request of a review, its objects still bytes."""

    uid: str
    operation: Operation
    kind: GroupVersionKind
    resource: GroupVersionResource
    sub_resource: str = ""
    request_kind: GroupVersionKind | None = None
    request_resource: GroupVersionResource | None = None
    request_sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    user_info: msgspec.Raw = msgspec.Raw(b"{}")
    object: msgspec.Raw = NOTHING
    old_object: msgspec.Raw = NOTHING
    options: msgspec.Raw = NOTHING
    dry_run: bool = False


class Review(msgspec.Struct, rename="camel"):
    """A review as it comes."""

    api_version: str
    kind: str
    request: WireRequest


class Response(msgspec.Struct, rename="camel", omit_defaults=True):
    """The answer to one request. What is empty is left out, ``patchType`` without a patch above all.

    Attributes:
        uid: the request's.
        allowed: whether it goes on.
        status: why not, as a meta/v1 Status.
        patch: operations that change the object, base64 of JSON.
    """

    uid: str
    allowed: bool
    status: dict[str, object] | None = None
    patch: str | None = None
    patch_type: str | None = None
    warnings: list[str] = []
    audit_annotations: dict[str, str] = {}


_decode = msgspec.json.Decoder(Review).decode


def read(body: bytes) -> Review:
    """Reads the body of a request.

    Raises:
        BadReview: it is empty, or no AdmissionReview of a version that is known.
    """
    if not body.strip():
        raise BadReview("the body is empty; expected an AdmissionReview as JSON")
    try:
        review = _decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadReview(f"the body is no AdmissionReview ({error})") from error
    if review.kind != "AdmissionReview" or review.api_version not in _API_VERSIONS:
        raise BadReview(
            f"the body is a {review.kind or 'nameless kind'} of {review.api_version or 'no version'}; "
            f"expected an AdmissionReview of {' or '.join(_API_VERSIONS)}"
        )
    return review


def answer(review: Review, response: Response) -> bytes:
    """The body of the answer, in the version that was asked in."""
    return msgspec.json.encode({"apiVersion": review.api_version, "kind": review.kind, "response": response})


def encoded_patch(operations: Sequence[Mapping[str, object]]) -> str:
    """A patch as it stands in a response."""
    return base64.b64encode(msgspec.json.encode(operations)).decode()

"""Conversion: objects of one version of a kind become those of another; all that were asked for, or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from pydantic import ValidationError

from kaito.kube.resource import Resource, ResourceType
from kaito.runtime.webhook.denial import unreadable
from kaito.runtime.webhook.endpoint import Answer
from kaito.runtime.webhook.metrics import EndpointMetrics, WebhookMetrics

log = logging.getLogger(__name__)

PATH = "/convert"
LIMIT_BYTES = 256 * 1024 * 1024
"""The largest review that is read: a whole list may come in one."""

_API_VERSIONS = ("apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1")
_AT_ONCE = 50  # objects between two breaths of the event loop

H = TypeVar("H", bound=Resource)
R = TypeVar("R", bound=Resource)
Json = dict[str, Any]


class ConversionFailed(Exception):
    """An object cannot be converted; the text says why."""


class Converter(Protocol):
    """Converts objects of one kind between its versions."""

    @property
    def place(self) -> ResourceType:
        """The kind, in any of its versions."""
        ...

    def convert(self, obj: Json, api_version: str) -> Json:
        """The object in another version.

        Raises:
            ConversionFailed: that version or the object's is not known, or the object cannot be read.
        """
        ...


class Conversion(Generic[H]):
    """Versions of a kind around one of them, the hub: ``Conversion(V1).version(V1beta1, to_hub=up, from_hub=down)``.

    Whatever a version cannot say has to be kept by these functions, in an annotation for one: the API server converts
    there and back, and what gets lost on the way is gone.

    Args:
        hub: the version that all others are converted to and from.
    """

    def __init__(self, hub: type[H]) -> None:
        self._hub = hub
        self._kinds: dict[str, type[Resource]] = {hub.resource_type.api_version: hub}
        self._up: dict[str, Callable[[Any], H]] = {}
        self._down: dict[str, Callable[[H], Resource]] = {}

    def version(self, kind: type[R], *, to_hub: Callable[[R], H], from_hub: Callable[[H], R]) -> Conversion[H]:
        """Adds a version.

        Args:
            kind: its class.
            to_hub: makes the hub's object of one.
            from_hub: makes one of the hub's object.

        Raises:
            ValueError: it is another kind, or the version is there already.
        """
        place, hub = kind.resource_type, self._hub.resource_type
        if place.group_kind != hub.group_kind:
            raise ValueError(f"Conversion of {hub.group_kind}: {place.group_kind} is another kind")
        if place.api_version in self._kinds:
            raise ValueError(f"Conversion of {hub.group_kind}: version {place.version} is there already")
        self._kinds[place.api_version] = kind
        self._up[place.api_version], self._down[place.api_version] = to_hub, from_hub
        return self

    @property
    def place(self) -> ResourceType:
        """See `Converter.place`."""
        return self._hub.resource_type

    def convert(self, obj: Json, api_version: str) -> Json:
        """See `Converter.convert`. Of the metadata only labels and annotations can change."""
        given = str(obj.get("apiVersion"))
        if given == api_version:
            return obj
        for version in (given, api_version):
            if version not in self._kinds:
                raise ConversionFailed(f"version {version} is not known; known are {', '.join(self._kinds)}")
        try:
            found = self._kinds[given].model_validate(obj)
        except ValidationError as error:
            raise ConversionFailed(str(unreadable(error, show_values=False))) from error
        hub: Any = self._up[given](found) if given in self._up else found
        made = self._down[api_version](hub) if api_version in self._down else hub
        return {**made.to_dict(), "apiVersion": api_version, "kind": obj["kind"], "metadata": _metadata(obj, made)}


def _metadata(obj: Json, made: Resource) -> Json:
    """The API server refuses a conversion that changes more of it."""
    kept = {name: value for name, value in obj["metadata"].items() if name not in ("labels", "annotations")}
    mine = {"labels": dict(made.metadata.labels), "annotations": dict(made.metadata.annotations)}
    return kept | {name: value for name, value in mine.items() if value}


class _Request(msgspec.Struct, rename={"desired": "desiredAPIVersion"}):
    uid: str
    desired: str
    objects: list[Json]


class _Review(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    request: _Request


_decode = msgspec.json.Decoder(_Review).decode


class ConversionEndpoint:
    """Answers ConversionReviews for some kinds.

    Args:
        converters: one for each kind.
        metrics: the server's.
    """

    def __init__(self, converters: Sequence[Converter], metrics: WebhookMetrics) -> None:
        self.path = PATH
        self.limit_bytes = LIMIT_BYTES
        self.metrics = EndpointMetrics(metrics, PATH)
        self.own_user = ""
        self._panics = metrics.conversion_panics.labels()
        self._converters: Mapping[str, Converter] = {each.place.group_kind: each for each in converters}

    async def answer(self, body: bytes, timeout_s: float | None = None) -> Answer:
        """Answers a review; raises nothing but a cancellation."""
        try:
            review = _decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            return Answer.sentence(400, f"the body is no ConversionReview ({error})")
        if review.kind != "ConversionReview" or review.api_version not in _API_VERSIONS:
            return Answer.sentence(400, f"the body is a {review.kind} of {review.api_version}, no ConversionReview")
        response: Json = {"uid": review.request.uid}
        try:
            response["convertedObjects"] = await self._convert(review.request)
            response["result"] = {"status": "Success"}
        except ConversionFailed as error:
            log.warning("conversion failed", extra={"why": str(error)})
            response["result"] = {"status": "Failure", "message": str(error)}
        document = {"apiVersion": review.api_version, "kind": review.kind, "response": response}
        return Answer(200, msgspec.json.encode(document))

    async def aclose(self) -> None:
        """Nothing is left behind."""

    async def _convert(self, request: _Request) -> list[Json]:
        made = []
        for number, obj in enumerate(request.objects):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            made.append(self._one(obj, request.desired))
        return made

    def _one(self, obj: Json, api_version: str) -> Json:
        what = _words(obj)
        converter = self._converters.get(_group_kind(obj))
        if converter is None:
            raise ConversionFailed(f"{what}: this kind is not converted here")
        try:
            return converter.convert(obj, api_version)
        except ConversionFailed as error:
            raise ConversionFailed(f"{what}: to {api_version}: {error}") from error
        except Exception as error:
            self._panics.inc()
            log.exception("conversion raised", extra={"object": what, "to": api_version})
            raise ConversionFailed(f"{what}: to {api_version}: failed with {type(error).__name__}") from error


def _group_kind(obj: Json) -> str:
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    kind = str(obj.get("kind", ""))
    return f"{kind}.{group}" if group else kind


def _words(obj: Json) -> str:
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    key = "/".join(str(metadata[part]) for part in ("namespace", "name") if metadata.get(part))
    return f"{obj.get('kind', 'object')} {key or 'without a name'}"

"""Writer: update, patch and apply, of whole objects and of their subresources."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from kaito.client import requests, wire
from kaito.client.answers import decoded
from kaito.client.errors import BadRequest, Conflict, Invalid
from kaito.client.results import Applied
from kaito.client.transport import Request, Response
from kaito.kube.metadata_only import MetadataOnlyObject
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource, ResourceType

R = TypeVar("R", bound=Resource)
S = TypeVar("S", bound=Resource)

PatchType = Literal["merge", "json", "strategic"]
FieldValidation = Literal["Strict", "Warn", "Ignore"]
JsonObject = Mapping[str, Any]
Patch = JsonObject | Sequence[JsonObject]

_PATCH_CONTENT_TYPES: Mapping[PatchType, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_APPLY_CONTENT_TYPE = "application/apply-patch+yaml"
_FIELD_VALIDATIONS = ("Strict", "Warn", "Ignore")


class WriteOptions(TypedDict, total=False):
    """What every write can be told.

    Attributes:
        dry_run: let the server check and answer, and store nothing; default False.
        field_owner: field manager; default the client's.
        field_validation: what becomes of fields that the server does not know: ``Strict`` refuses them (the default:
            a misspelt field is a mistake), ``Warn`` drops them with a warning in the log, ``Ignore`` drops them.
    """

    dry_run: bool
    field_owner: str | None
    field_validation: FieldValidation


class Writer(abc.ABC):
    """The writing verbs that an object and its subresources share.

    Args:
        field_owner: field manager of all writes, unless a call names another.
        subresource: the part that is written; empty for the object itself.
    """

    def __init__(self, field_owner: str, subresource: str = "") -> None:
        self.field_owner = field_owner
        self._subresource = subresource

    @abc.abstractmethod
    async def request(self, request: Request) -> Response:
        """Sends a request; see `Client.request`."""

    async def update(self, obj: R, **options: Unpack[WriteOptions]) -> R:
        """Replaces an object; with a resourceVersion in it, only the one that was read.

        Raises:
            Conflict: it changed since it was read.
            NotFound: it is gone.
            Invalid: it breaks a rule of its schema; `causes` name the fields.
            TypeError: only parts of it are known.
        """
        refuse_parts(obj, "update")
        return await self._put(obj.resource_type, obj.key, obj, type(obj), options)

    async def patch(
        self,
        kind: type[R],
        key: ObjectKey,
        patch: Patch,
        *,
        type: PatchType = "merge",
        resource_version: str | None = None,
        **options: Unpack[WriteOptions],
    ) -> R:
        """Changes parts of an object.

        Args:
            kind: the class.
            key: which object.
            patch: a document (merge, strategic) or a list of operations (json).
            type: how to read the patch; custom resources know no strategic patches.
            resource_version: only if nobody wrote since it had this one (optimistic lock). Merge patches replace whole
                lists, so one that holds a list that others write to needs it.
            options: see `WriteOptions`.

        Raises:
            Conflict: the object changed since.
            NotFound: it is gone.
            Invalid: what comes of it breaks a rule, or an operation does not fit the object.
        """
        return await self._change(kind.resource_type, key, patch, type, resource_version, kind, options)

    async def apply(self, obj: R, *, force: bool = False, **options: Unpack[WriteOptions]) -> Applied[R]:
        """Server-side apply: makes the object have the fields given here, and no more those given before and not now.

        Args:
            obj: the wanted fields; nothing else should be set.
            force: take fields over from other managers instead of failing.
            options: see `WriteOptions`.

        Raises:
            ApplyConflict: another manager owns a field; `conflicts` name both.
            Conflict: ``metadata.uid`` was given, and the object is another one or gone.
            BadRequest: it has no name, and is not sent.
        """
        if not obj.metadata.name:
            raise BadRequest(
                f"apply {obj.resource_type.plural}: metadata.name is needed, generateName cannot be applied"
            )
        query = (*self._query(**options), ("force", "true" if force else "false"))
        request = self._on(obj.resource_type, obj.key, "PATCH", "apply", query, obj.accept)
        request = requests.with_body(request, obj.to_dict(), content_type=_APPLY_CONTENT_TYPE)
        response = await self.request(request)
        return Applied(decoded(type(obj), request, response), response.status == 201)

    async def _put(
        self, place: ResourceType, key: ObjectKey, body: Resource, result: type[S], options: WriteOptions
    ) -> S:
        request = self._on(place, key, "PUT", "update", self._query(**options))
        response = await self.request(requests.with_body(request, body.to_dict()))
        return decoded(result, request, response)

    async def _change(
        self,
        place: ResourceType,
        key: ObjectKey,
        patch: Patch,
        patch_type: PatchType,
        resource_version: str | None,
        result: type[S],
        options: WriteOptions,
    ) -> S:
        if patch_type not in _PATCH_CONTENT_TYPES:
            raise ValueError(f"patch: type {patch_type!r}: expected one of {', '.join(_PATCH_CONTENT_TYPES)}")
        _check_patch(f"patch {place.plural} {key}", patch, patch_type)
        body = patch if resource_version is None else _locked(patch, patch_type, resource_version)
        request = self._on(place, key, "PATCH", "patch", self._query(**options), result.accept)
        content_type = _PATCH_CONTENT_TYPES[patch_type]
        try:
            response = await self.request(requests.with_body(request, body, content_type=content_type))
        except Invalid as error:
            # The server applies operations before it compares versions, and does not say which one did not fit.
            if patch_type == "json" and resource_version is not None:
                await self._refuse_stale(place, key, resource_version, error)
            raise
        return decoded(result, request, response)

    async def _refuse_stale(self, place: ResourceType, key: ObjectKey, resource_version: str, error: Invalid) -> None:
        request = requests.on_object("GET", "get", place, key)
        current = wire.decode_header((await self.request(request)).body).metadata.resource_version
        if current != resource_version:
            raise Conflict(
                f"patch {place.plural} {key}: the patch does not fit the object, which changed: it is at "
                f"resourceVersion {current}, and no longer at {resource_version}; read it again",
                status=409,
                reason="Conflict",
            ) from error

    def _on(
        self,
        place: ResourceType,
        key: ObjectKey,
        method: str,
        verb: str,
        query: tuple[tuple[str, str], ...] = (),
        accept: str = "",
    ) -> Request:
        return requests.on_object(method, verb, place, key, self._subresource, query, accept)

    def _query(self, **options: Unpack[WriteOptions]) -> tuple[tuple[str, str], ...]:
        _check_options(options)
        field_validation = options.get("field_validation", "Strict")
        if field_validation not in _FIELD_VALIDATIONS:
            allowed = ", ".join(_FIELD_VALIDATIONS)
            raise ValueError(f"field_validation {field_validation!r}: expected one of {allowed}")
        owner = options.get("field_owner") or self.field_owner
        query = (("fieldManager", owner), ("fieldValidation", field_validation))
        return (*query, ("dryRun", "All")) if options.get("dry_run") else query


def refuse_parts(obj: Resource, verb: str) -> None:
    """Refuses to write an object whole of which only parts are known.

    Raises:
        TypeError: it is one.
    """
    if obj.is_partial:
        raise TypeError(
            f"{verb} {obj.resource_type.plural} {obj.key}: it was read from a cache that keeps only parts of objects, "
            f"and would empty the rest; patch or apply it, or read it with client.live"
        )
    if isinstance(obj, MetadataOnlyObject):
        raise TypeError(
            f"{verb} {obj.resource_type.plural} {obj.key}: {type(obj).__name__} has only the metadata, and would empty "
            f"the rest; patch it, or read it as {obj.kind}"
        )


def _check_options(options: WriteOptions) -> None:
    # A misspelt dry_run would otherwise be a TypeError about a function that nobody called.
    known = WriteOptions.__annotations__
    for name in options:
        if name not in known:
            nearest = difflib.get_close_matches(name.replace("_", ""), known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
            raise TypeError(f"writes have no option {name!r}; {hint}")


def _check_patch(what: str, patch: Patch, patch_type: PatchType) -> None:
    if (patch_type == "json") is isinstance(patch, Mapping):
        raise TypeError(
            f"{what}: a json patch is a list of operations, and this is a mapping; give "
            f"[{{'op': …, 'path': …}}, …], or leave type= out for a merge patch"
            if patch_type == "json"
            else f"{what}: a {patch_type} patch is a mapping, and this is a list; for operations give type='json'"
        )


def _locked(patch: Patch, patch_type: PatchType, resource_version: str) -> Patch:
    """The patch, on condition that the object still has this resourceVersion."""
    if isinstance(patch, Mapping):
        return {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": resource_version}}
    # To set it makes the server compare, and answer 409. A test operation would be answered by a 422 that says nothing.
    return [{"op": "add", "path": "/metadata/resourceVersion", "value": resource_version}, *patch]

"""Projection: keeps of an object what its class declares, and drops the rest before it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from kaito.informers.entry import ByteTransform
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


def projection(kind: type[Resource]) -> ByteTransform:
    """Returns a transform that keeps the declared fields of a class, and what is in them.

    A class that declares the three fields of a Pod that it reads makes a cache of those three. Metadata is kept as
    far as `kaito.kube.meta_v1.ObjectMeta` declares it. A field whose schema is not a model is kept whole.

    Args:
        kind: the class.
    """
    shape = _shape(kind)
    decode, encode = msgspec.json.Decoder(shape).decode, msgspec.json.Encoder().encode
    return lambda raw: encode(decode(raw))


@cache
def _shape(model: type[KubeModel], within: frozenset[type[KubeModel]] = frozenset()) -> type[msgspec.Struct]:
    """A struct of a model's fields: models as structs, lists of them as lists of structs, all else as raw bytes.

    A model inside of itself is kept whole.
    """
    fields: list[tuple[str, Any, Any]] = []
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        kept = _type_of(field.annotation, within | {model})
        # Raw takes null as it is, and stands in no union.
        fields.append((name, kept if kept is msgspec.Raw else kept | None, msgspec.UNSET))
        names[name] = field.alias or name
    return msgspec.defstruct(model.__name__, fields, rename=names, gc=False)


def _type_of(annotation: Any, within: frozenset[type[KubeModel]]) -> Any:
    """What to decode a field as; Raw where nothing is to be dropped."""
    if get_origin(annotation) is Annotated:
        return _type_of(get_args(annotation)[0], within)
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, type(int | None)):
        wanted = [argument for argument in arguments if argument is not type(None)]
        return _type_of(wanted[0], within) if len(wanted) == 1 else msgspec.Raw
    if get_origin(annotation) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        inner = _type_of(arguments[0], within)
        return msgspec.Raw if inner is msgspec.Raw else list[inner]  # type: ignore[valid-type]
    if get_origin(annotation) in (dict, Mapping):
        return msgspec.Raw
    if isinstance(annotation, type) and issubclass(annotation, KubeModel) and annotation not in within:
        return _shape(annotation, within)
    return msgspec.Raw

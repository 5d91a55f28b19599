"""From JSON Schema, as pydantic speaks it, to the OpenAPI 3.0 that a structural schema is written in.

What has another spelling there is respelled, what says nothing to the API server is left out, and what it would refuse
is refused here, in words about Python.
"""

from collections.abc import Mapping
from typing import Any, Final

from kaito.kube.validation_formats import is_known_format

OPEN: Final = {"x-kubernetes-preserve-unknown-fields": True}

_KEPT = {
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "nullable",
    "pattern",
    "required",
    "type",
}
_IGNORED = {
    "$comment",
    "const",
    "contentEncoding",
    "contentMediaType",
    "deprecated",
    "discriminator",
    "examples",
    "title",
}


class SchemaError(TypeError):
    """A type that a structural schema cannot express, or a marker that the API server would refuse."""


def respelled(node: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a schema without references in the API server's dialect.

    Args:
        node: the schema.
        where: the field, for messages.

    Raises:
        SchemaError: it has a part that a structural schema cannot have.
    """
    made: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword == "properties":
            made[keyword] = {name: respelled(child, f"{where}.{name}") for name, child in value.items()}
        elif keyword == "items":
            made[keyword] = respelled(value, f"{where}[]") or dict(OPEN)
        elif keyword == "additionalProperties":
            if isinstance(value, Mapping):
                made[keyword] = respelled(value, f"{where}[KEY]")
        elif _is_kept(keyword, node):
            made[keyword] = value
        elif keyword not in _IGNORED:
            _respell(made, keyword, value, node, where)
    return _tidied(made, node)


def _is_kept(keyword: str, node: Mapping[str, Any]) -> bool:
    if keyword == "anyOf":
        return bool(node.get("x-kubernetes-int-or-string"))
    return keyword in _KEPT or keyword.startswith("x-kubernetes-")


def _respell(made: dict[str, Any], keyword: str, value: Any, node: Mapping[str, Any], where: str) -> None:
    """Takes what has another name, and refuses the rest."""
    if keyword == "uniqueItems":
        if node.get("items", {}).get("type") not in ("string", "integer", "number", "boolean"):
            raise SchemaError(
                f"{where}: a set of objects or lists: an API server knows only sets of scalars; "
                f"write tuple[…, ...], with ListMap(key) if one field of an item tells it from others"
            )
        made["x-kubernetes-list-type"] = "set"
    elif keyword == "prefixItems":
        raise SchemaError(
            f"{where}: a tuple with a type for each place: the items of a list have one schema; "
            f"write a model with a field for each, or tuple[T, ...]"
        )
    elif keyword in ("propertyNames", "patternProperties"):
        raise SchemaError(
            f"{where}: keys with a type or pattern of their own: keys of a map are any text; write dict[str, …] "
            f"and check the keys in a Rule, such as self.all(key, key.matches('…'))"
        )
    else:
        raise SchemaError(f"{where}: {keyword!r} cannot be part of a CRD's schema; leave it out of json_schema_extra")


def _tidied(made: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if isinstance(made.get(exclusive), (int, float)) and made[exclusive] is not True:
            made |= {bound: made[exclusive], exclusive: True}
    if made.get("type") == "array":
        made.setdefault("items", dict(OPEN))
    if made.get("description") == "" or made.get("description") is None:
        made.pop("description", None)
    if "format" in made and not is_known_format(made.get("type", ""), made["format"]):
        del made["format"]
    if made.get("type") == "object" and node.get("additionalProperties") is True and "properties" not in made:
        made["additionalProperties"] = dict(OPEN)
    if made.get("type") == "object" and "properties" in made:
        made.pop("additionalProperties", None)
    return made

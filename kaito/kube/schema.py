"""From a model to the structural OpenAPI v3 schema that a CustomResourceDefinition holds.

The schema is closed, whatever the model keeps when it reads: fields that no class declares are pruned by the API
server. Parts that belong to somebody else's schema stay open (`OpenSchema`, `FrozenJson`). A default of a class becomes
one of the schema unless it is a zero value (None, "", 0, False, empty), which would only swell every stored object.
"""

import re
from inspect import cleandoc
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from kaito.kube.model import KubeModel
from kaito.kube.schema_markers import REQUIRED, VALIDATIONS, Rule

OPEN = {"x-kubernetes-preserve-unknown-fields": True}
INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}


def structural_schema(model: type[KubeModel]) -> dict[str, Any]:
    """Returns the model's schema: closed, without references, nulls or titles, with rules and descriptions.

    Descriptions are the first paragraph of a class's docstring and, for its fields, the ``Attributes:`` section or
    ``Field(description=…)``.

    Raises:
        SchemaError: the model has a type that a structural schema cannot express.
    """
    schema: dict[str, Any] = plain(schema_with_rules(model))
    return schema


def schema_with_rules(model: type[KubeModel]) -> dict[str, Any]:
    """Returns the same schema with its rules as `Rule`, for who wants to check them rather than write them down."""
    generated = model.model_json_schema(by_alias=True, schema_generator=_StructuralSchema, ref_template="{model}")
    definitions = generated.pop("$defs", {})
    schema: dict[str, Any] = _inline(generated, definitions, (model.__name__,))
    return schema


class SchemaError(TypeError):
    """A type that a structural schema cannot express."""


class _StructuralSchema(GenerateJsonSchema):
    """pydantic's generator, speaking Kubernetes' dialect."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        cls: type[KubeModel] = schema["cls"]
        fields = super().model_schema(schema)
        properties = {name: dict(value) for name, value in fields.get("properties", {}).items()}
        required = {
            *fields.get("required", ()),
            *(name for name, value in properties.items() if value.pop(REQUIRED, 0)),
        }
        summary, attributes = _docstring(cls)
        for name, field in cls.model_fields.items():
            if name in attributes:
                properties[field.serialization_alias or field.alias or name].setdefault("description", attributes[name])
        rules: tuple[Rule, ...] = getattr(cls, "cel_rules", ())
        return (
            {"type": "object", "description": summary}
            | ({"properties": properties} if properties else {})
            | ({"required": sorted(required)} if required else {})
            | ({VALIDATIONS: [*rules]} if rules else {})
        )

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return {**inner, "default": default} if isinstance(default, (str, int, float)) and default else inner

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def any_schema(self, schema: core_schema.AnySchema) -> JsonSchemaValue:
        return dict(OPEN)

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {**super().int_schema(schema), "format": "int64"}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        if not all(isinstance(value, str) for value in schema["expected"]):
            raise SchemaError(f"Literal{schema['expected']}: an enum of a CRD has only strings here")
        return {"type": "string", "enum": list(schema["expected"])}

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        types = sorted(choice["type"] for choice in choices)
        if types != ["int", "str"]:
            raise SchemaError(f"a union of {' and '.join(types)}: a structural schema has none but int | str")
        return dict(INT_OR_STRING)


def plain(node: Any) -> Any:
    """Returns a schema with its rules as the CRD has them."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(item) for item in node]
    return node.to_dict() if isinstance(node, Rule) else node


def _docstring(cls: type) -> tuple[str, dict[str, str]]:
    """Returns the first paragraph and the Attributes section of a class's docstring, each text on one line."""
    summary, _, rest = cleandoc(cls.__doc__ or "").partition("\n\n")
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", rest, re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section.group(1) if section else "", re.MULTILINE)
    return _one_line(summary), {name: _one_line(text) for name, text in entries}


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "")


def _inline(node: Any, definitions: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Replaces each reference by what it stands for; keywords beside it win, rules of both are kept."""
    if isinstance(node, list):
        return [_inline(item, definitions, path) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return _exclusive({key: _inline(value, definitions, path) for key, value in node.items()})
    name = node["$ref"]
    if name in path:
        raise SchemaError(f"{' -> '.join(path)} -> {name}: a structural schema cannot contain itself")
    target = _inline(definitions[name], definitions, (*path, name))
    beside = {key: value for key, value in node.items() if key != "$ref"}
    rules = [*target.get(VALIDATIONS, []), *beside.get(VALIDATIONS, [])]
    return target | beside | ({VALIDATIONS: rules} if rules else {})


def _exclusive(node: dict[str, Any]) -> dict[str, Any]:
    """Writes exclusive bounds as OpenAPI 3.0 has them: a flag beside the bound."""
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if isinstance(node.get(exclusive), (int, float)) and node[exclusive] is not True:
            node |= {bound: node[exclusive], exclusive: True}
    return node

"""From a model to the structural OpenAPI v3 schema that a CustomResourceDefinition holds.

The schema is closed, whatever the model keeps when it reads: fields that no class declares are pruned by the API
server. Parts that belong to somebody else's schema stay open (`OpenSchema`, `FrozenJson`). A default of a class becomes
one of the schema unless it is a zero value (None, "", 0, False, empty), which would only swell every stored object.
"""

import re
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticSerializationError, core_schema, to_jsonable_python

from kaito.kube.model import KubeModel
from kaito.kube.schema_checks import check_schema
from kaito.kube.schema_dialect import OPEN, SchemaError, respelled
from kaito.kube.schema_markers import REQUIRED, VALIDATIONS, Rule

__all__ = ["SchemaError", "plain", "schema_with_rules", "structural_schema"]

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
    schema = respelled(_inline(generated, definitions, (model.__name__,)), model.__name__)
    check_schema(schema, model.__name__)
    return schema


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
        summary, _ = _docstring(cls)
        attributes = {name: text for base in reversed(cls.__mro__) for name, text in _docstring(base)[1].items()}
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

    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> JsonSchemaValue:
        owner = str(schema.get("model_name", "model"))
        for name, field in schema["fields"].items():
            self._try_field(f"{owner}.{name}", field)
        return super().model_fields_schema(schema)

    def _try_field(self, where: str, field: core_schema.ModelField) -> None:
        """Names the field in whatever keeps it from having a schema."""
        try:
            self.generate_inner(field)
        except _LocatedError:
            raise
        except SchemaError as error:
            raise _LocatedError(f"{where}: {error}") from None
        except PydanticInvalidForJsonSchema as error:
            what = str(error).splitlines()[0]
            raise _LocatedError(f"{where}: {what}; such a value has no JSON, so that it cannot be a field") from None

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = _as_json(schema.get("default"))
        return {**inner, "default": default} if default else inner

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def any_schema(self, schema: core_schema.AnySchema) -> JsonSchemaValue:
        return dict(OPEN)

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {**super().int_schema(schema), "format": "int64"}

    def none_schema(self, schema: core_schema.NoneSchema) -> JsonSchemaValue:
        raise SchemaError("a field that can only be None says nothing; leave it out")

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        raise SchemaError("complex has no JSON type; write a model with two numbers, or str")

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        return {"type": "string"}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {"type": "string"}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": _DECIMAL}

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        # Not the format "duration", which is Go's (1h30m), that pydantic does not read.
        return {"type": "string", "pattern": _ISO_DURATION}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        key = schema.get("keys_schema", {"type": "any"})["type"]
        if key not in ("str", "any", "enum", "literal", "function-after", "function-wrap", "uuid", "date"):
            raise SchemaError(f"a map with keys of type {key}: keys are texts in JSON; write dict[str, …]")
        values = self.generate_inner(schema["values_schema"]) if "values_schema" in schema else {}
        bounds = {"minProperties": schema.get("min_length"), "maxProperties": schema.get("max_length")}
        found = {name: value for name, value in bounds.items() if value is not None}
        return {"type": "object", "additionalProperties": values or dict(OPEN)} | found

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _choices([member.value for member in schema["members"]], schema["cls"].__name__)

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _choices([getattr(value, "value", value) for value in schema["expected"]], "Literal")

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        types = sorted(choice["type"] for choice in choices)
        if types == ["float", "int"]:
            return {"type": "number"}
        if types != ["int", "str"]:
            raise SchemaError(
                f"a union of {' and '.join(types)}: of unions a structural schema has only int | str; write one model "
                f"with an optional field for each choice and a Rule that just one is there, or OpenSchema()"
            )
        return dict(INT_OR_STRING)

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        raise SchemaError(
            f"a union told apart by {schema['discriminator']!r}: write one model with an optional field for each "
            f"choice and a Rule that just one is there, such as Rule('has(self.a) != has(self.b)', …), or OpenSchema()"
        )


def _as_json(default: object) -> Any:
    """Returns a default as writers would spell it: aliases for names, nothing for None."""
    if isinstance(default, BaseModel):
        return default.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={*type(default).model_computed_fields}
        )
    if isinstance(default, Mapping):
        return {key: _as_json(value) for key, value in default.items()}
    if isinstance(default, (list, tuple, set, frozenset)):
        return [_as_json(item) for item in default]
    try:
        return to_jsonable_python(default)
    except PydanticSerializationError:
        return None


class _LocatedError(SchemaError):
    """One that already names the field."""


_DECIMAL = r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)$"
_ISO_DURATION = r"^[-+]?P([0-9]+W)?([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?)?$"
_CHOICES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _choices(values: list[Any], name: str) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not kinds <= _CHOICES.keys():
        types = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SchemaError(f"{name} of {types}: the choices of an enum are all texts or all numbers")
    return {"type": _CHOICES[kinds.pop()], "enum": values}


def plain(node: Any) -> Any:
    """Returns a schema with its rules as the CRD has them."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(item) for item in node]
    return node.to_dict() if isinstance(node, Rule) else node


def _docstring(cls: type) -> tuple[str, dict[str, str]]:
    """Returns the first paragraph and the Attributes section of a class's docstring, each text on one line.

    What the section says of a field goes on after a colon; here it begins like a sentence, as Kubernetes' own texts do.
    """
    summary, _, rest = cleandoc(cls.__doc__ or "").partition("\n\n")
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", rest, re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section.group(1) if section else "", re.MULTILINE)
    return _one_line(summary), {name: _sentence(_one_line(text)) for name, text in entries}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "")


def _inline(node: Any, definitions: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Replaces each reference by what it stands for; keywords beside it win, rules of both are kept."""
    if isinstance(node, list):
        return [_inline(item, definitions, path) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {key: _inline(value, definitions, path) for key, value in node.items()}
    name = node["$ref"]
    if name in path:
        raise SchemaError(
            f"{' -> '.join(path)} -> {name}: a structural schema cannot contain itself; mark the "
            f"field that does with OpenSchema(), whose contents the API server then keeps and does not check"
        )
    target = _inline(definitions[name], definitions, (*path, name))
    beside = {key: value for key, value in node.items() if key != "$ref"}
    rules = [*target.get(VALIDATIONS, []), *beside.get(VALIDATIONS, [])]
    return target | beside | ({VALIDATIONS: rules} if rules else {})

"""MetadataOnly: a kind of which only the metadata is read, when that is all that one looks at."""

from functools import cache
from types import new_class
from typing import Any

from pydantic import ConfigDict, ValidationInfo, field_validator

from kaito.kube.resource import Resource


class MetadataOnlyObject(Resource):
    """The metadata of an object and nothing else of it; ``api_version`` and ``kind`` are those of the object itself."""

    # An API server that does not know the media type sends whole objects.
    model_config = ConfigDict(extra="ignore")

    @field_validator("api_version", "kind", mode="after")
    @classmethod
    def _of_the_kind_itself(cls, value: str, info: ValidationInfo) -> str:
        # The wire says PartialObjectMetadata of meta.k8s.io/v1.
        if not hasattr(cls, "resource_type"):
            return value
        return cls.resource_type.kind if info.field_name == "kind" else cls.resource_type.api_version


@cache
def MetadataOnly(kind: type[Resource]) -> type[MetadataOnlyObject]:
    """Returns a class for the metadata of a kind, the same one for the same kind.

    The API server cuts the rest off before it sends anything: reading all Pods this way costs a tenth of the bytes.
    Such objects can be read, listed, watched, patched and deleted; not created or updated, which would empty them.

    Args:
        kind: a class with a place in the API.
    """
    return new_class(
        f"{kind.__name__}Metadata", (MetadataOnlyObject,), dict(kind.resource_type._asdict()), _describe(kind)
    )


def _describe(kind: type[Resource]) -> Any:
    def body(namespace: dict[str, object]) -> None:
        namespace["__module__"] = __name__
        namespace["__doc__"] = f"The metadata of a {kind.__name__}."
        namespace["accept"] = _media_types("PartialObjectMetadata")
        namespace["list_accept"] = _media_types("PartialObjectMetadataList")

    return body


def _media_types(shape: str) -> str:
    # The last is for servers behind an APIService that cut nothing off.
    return f"application/json;as={shape};g=meta.k8s.io;v=v1,application/json"


__all__ = ["MetadataOnly", "MetadataOnlyObject"]

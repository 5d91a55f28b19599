"""Names that a user types and may get wrong: images, Secrets, ConfigMaps; each with the rules of admission."""

from typing import Annotated

from kaito.api.text_rules import DNS_SUBDOMAIN, form, no_placeholder
from kaito.kube.schema_markers import Limits, Rule

_HOST = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*(:[0-9]+)?"
_REPOSITORY = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*"
_TAG_AND_DIGEST = "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-fA-F]{32,})?"
REFERENCE = f"^({_HOST}/)?{_REPOSITORY}{_TAG_AND_DIGEST}$"
"""OpenAPI pattern of `ImageReference`."""


def _object_name(of: str) -> Rule:
    return form(
        f"^{DNS_SUBDOMAIN}$",
        f"not the name of {of}: use lower case letters, digits, '-' and '.', with a letter or digit at both ends",
    )


ImageReference = Annotated[
    str,
    Limits(min_length=1, max_length=512),
    no_placeholder("your own registry and image"),
    form(
        REFERENCE,
        "not an image reference: write [REGISTRY/]REPOSITORY[:TAG][@DIGEST], the repository in lower case, "
        "such as myregistry.azurecr.io/adapters/phi-3:0.0.1",
    ),
]
"""An OCI image: ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`` (the grammar of distribution's ``reference`` package)."""

SecretName = Annotated[
    str,
    Limits(min_length=1, max_length=253),
    no_placeholder("the name of your own Secret"),
    _object_name("a Secret"),
]
"""The name of a Secret in the object's namespace."""

ConfigMapName = Annotated[
    str,
    Limits(min_length=1, max_length=253),
    no_placeholder("the name of your own ConfigMap"),
    _object_name("a ConfigMap"),
]
"""The name of a ConfigMap in the object's namespace."""

"""The product's kinds: Workspace, and the claims of nodes that it may make, Machine or NodeClaim."""

from typing import Any

from kaito.api import kaito_v1alpha1, kaito_v1beta1, karpenter_v1, karpenter_v1alpha5
from kaito.kube.crd import custom_resource_definition

__all__ = ["all_crds"]


def all_crds() -> list[dict[str, Any]]:
    """Returns every CustomResourceDefinition of the product, by name; those of Karpenter's kinds included."""
    definitions = (
        custom_resource_definition(kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace),
        custom_resource_definition(karpenter_v1alpha5.Machine),
        custom_resource_definition(karpenter_v1.NodeClaim),
    )
    return sorted(definitions, key=lambda definition: str(definition["metadata"]["name"]))

"""rbac/v1: who may do what: rules in Roles and ClusterRoles, and the bindings that give them to somebody."""

from pydantic import Field

from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class PolicyRule(KubeModel):
    """These verbs on these resources; ``resources`` holds plurals, and ``plural/subresource``."""

    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = Field(default=(), alias="nonResourceURLs")


class Subject(KubeModel):
    """Who a binding gives a role to: a ServiceAccount (with its namespace), User or Group."""

    kind: str
    name: str
    namespace: str = ""
    api_group: str = ""


class RoleRef(KubeModel):
    """The role that a binding gives; it cannot be changed afterwards."""

    api_group: str = "rbac.authorization.k8s.io"
    kind: str
    name: str


class ClusterRole(Resource, group="rbac.authorization.k8s.io", version="v1", namespaced=False):
    """Rules for the whole cluster, cluster-scoped kinds included."""

    rules: tuple[PolicyRule, ...] = ()


class Role(Resource, group="rbac.authorization.k8s.io", version="v1"):
    """Rules for one namespace."""

    rules: tuple[PolicyRule, ...] = ()


class ClusterRoleBinding(Resource, group="rbac.authorization.k8s.io", version="v1", namespaced=False):
    """Gives a ClusterRole in the whole cluster."""

    role_ref: RoleRef
    subjects: tuple[Subject, ...] = ()


class RoleBinding(Resource, group="rbac.authorization.k8s.io", version="v1"):
    """Gives a Role or ClusterRole in one namespace."""

    role_ref: RoleRef
    subjects: tuple[Subject, ...] = ()

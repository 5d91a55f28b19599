"""Resource: a kind with a place in the API (group, version, plural, scope); and ResourceType, that place as a value."""

from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field

from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.model import KubeModel
from kaito.kube.object_key import ObjectKey


class ResourceType(NamedTuple):
    """Where a kind lives in the API.

    Attributes:
        group: API group; empty for the core group.
        version: API version, such as ``v1``.
        kind: the kind's name, such as ``Deployment``.
        plural: the name in URLs, such as ``deployments``.
        namespaced: False for cluster-scoped kinds.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``group/version``, or just the version in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> str:
        """``Kind.group``, the form that kubectl takes; just ``Kind`` in the core group."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def may_be_listed_as(self, list_kind: str) -> bool:
        """Whether a list of this name of kind can be one of this kind; empty: it has none, as in some aggregated APIs.

        Built-in lists are named after their kind. A CRD may choose (``listKind``), but its objects each say their own.
        """
        if list_kind in (f"{self.kind}List", "PartialObjectMetadataList", "List", ""):
            return True
        return "." in self.group and not self.group.endswith(".k8s.io")

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Returns the URL path of the collection, of one object, or of a subresource of it."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


def guess_plural(kind: str) -> str:
    """The name in URLs that Kubernetes' own tools guess for a kind; only the API server knows the real one.

    The rule is apimachinery's: ``Ingress`` gives ``ingresses``, ``NetworkPolicy`` gives ``networkpolicies``, all else
    gets an s. It is wrong for kinds such as ``Gateway``: ``gatewaies``.
    """
    name = kind.lower()
    if name.endswith("endpoints"):
        return name
    if name.endswith("s"):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


class Resource(KubeModel):
    """An object with metadata. Subclasses say where they live, as class arguments::

        class Widget(Resource, group="example.com", version="v1", plural="widgets"):
            spec: WidgetSpec

    Class arguments: ``group`` (default: core), ``version``, ``kind`` (default: the class's name), ``plural`` (default:
    `guess_plural` of the kind), ``namespaced`` (default: True). A class without ``version`` is an abstract base.
    """

    # Set on objects of which only parts were kept. A slot, so that it is no field and costs others nothing.
    __slots__ = ("_is_partial",)

    resource_type: ClassVar[ResourceType]
    accept: ClassVar[str] = ""
    """Media types for the ``Accept`` header of requests for one object and of watches; empty: plain JSON."""
    list_accept: ClassVar[str] = ""
    """The same for requests of a (page of a) list, which the API server has other names for."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)

    def __init_subclass__(cls, **_kwargs: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        group: str = "",
        version: str = "",
        kind: str = "",
        plural: str = "",
        namespaced: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not version:
            return
        kind = kind or cls.__name__
        cls.resource_type = ResourceType(group, version, kind, plural or guess_plural(kind), namespaced)
        # Safe before first use: schemas are built lazily (defer_build), so these defaults are part of the first build.
        cls.__pydantic_fields__["api_version"].default = cls.resource_type.api_version
        cls.__pydantic_fields__["kind"].default = kind

    @property
    def key(self) -> ObjectKey:
        """The object's key."""
        return ObjectKey(self.metadata.name, self.metadata.namespace)

    @property
    def is_partial(self) -> bool:
        """Whether it may lack what the object has, since it was read from a cache that keeps only parts."""
        return hasattr(self, "_is_partial")

    def as_partial(self) -> Self:
        """Marks it as partial, for good: it and what is edited of it cannot be written back whole."""
        object.__setattr__(self, "_is_partial", True)
        return self

    def edit(self) -> Self:
        """See `KubeModel.edit`."""
        draft = super().edit()
        return draft.as_partial() if self.is_partial else draft

    def to_dict(self) -> dict[str, Any]:
        """Returns the wire form; apiVersion and kind are always present."""
        return {"apiVersion": self.api_version, "kind": self.kind} | super().to_dict()

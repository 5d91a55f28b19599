"""ObjectKey: what work queues hold and clients ask for; the name of an object, never the object."""

from typing import NamedTuple


class ObjectKey(NamedTuple):
    """The name of one object of a kind that the context knows.

    Attributes:
        name: metadata.name.
        namespace: metadata.namespace; None for cluster-scoped objects.
        cluster: the cluster that the object lives in; None for the one that the manager was given.
    """

    name: str
    namespace: str | None = None
    cluster: str | None = None

    def __str__(self) -> str:
        path = self.name if self.namespace is None else f"{self.namespace}/{self.name}"
        return path if self.cluster is None else f"{self.cluster}:{path}"

    @classmethod
    def parse(cls, text: str) -> "ObjectKey":
        """Reads ``name`` or ``namespace/name``.

        Raises:
            ValueError: the text has more than one slash or an empty part.
        """
        namespace, slash, name = text.rpartition("/")
        if not name or "/" in namespace or (slash and not namespace):
            raise ValueError(f"object key {text!r}: expected NAME or NAMESPACE/NAME")
        return cls(name, namespace or None)

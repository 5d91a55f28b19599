"""policy/v1: Eviction, which asks for the end of a Pod and respects what disruption budgets protect."""

from kaito.kube.frozen import FrozenJson
from kaito.kube.resource import Resource


class Eviction(Resource, group="policy", version="v1"):
    """Asks to delete a Pod, unless a disruption budget forbids it now; its metadata names the Pod."""

    delete_options: FrozenJson = None

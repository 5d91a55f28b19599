"""What there is of a Workspace and how it is (``status``)."""

from typing import Annotated, Literal

from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import Condition, Time
from kaito.kube.model import KubeModel
from kaito.kube.schema_markers import Int32, ListMap


class WantedClaim(KubeModel):
    """A claim that is written down before it is made, so that a crash makes no second one.

    Attributes:
        ordinal: which of the Workspace's nodes this is, from 0 on.
        incarnation: how often that node has been replaced; 0 for the first one.
        name: the name of the Machine or NodeClaim, such as ws0123456ab.
        not_before: the time before which it is not made: a node that is lost again and again is replaced more and more
            slowly, in the end every 10 minutes. Absent: at once.
    """

    ordinal: Int32
    incarnation: Int32
    name: str
    not_before: Time | None = None


class PerformanceMetric(KubeModel):
    """A figure, with its unit and how it was measured.

    Attributes:
        description: what was measured, in a few words for people.
        value: the figure, as a decimal in a text, such as "12345.6".
        unit: what the figure counts, such as tokens/min.
        config: settings that it was measured with, by name, such as engine: vllm.
    """

    description: str = ""
    value: str = ""
    unit: str = ""
    config: FrozenMap[str, str] = FrozenDict()


class Performance(KubeModel):
    """What the workload was measured to do.

    Attributes:
        metrics: figures by name, such as peakTokensPerMinute, the most that the model wrote in a minute.
    """

    metrics: FrozenMap[str, PerformanceMetric] = FrozenDict()


WorkspaceState = Literal["Pending", "Ready", "NotReady", "Running", "Succeeded", "Failed"]


class WorkspaceStatus(KubeModel):
    """What a Workspace has and how it is.

    Attributes:
        observed_generation: the metadata.generation of the Workspace that this status speaks of. If it is lower than
            that of the Workspace, the last change has not been looked at yet.
        state: all of it in one word. Of inference: Pending, Ready, or NotReady for what was Ready before. Of tuning:
            Pending, Running, Succeeded or Failed.
        conditions: what has been reached, and of what has not, what stands in the way and what to do about it.
        worker_nodes: names of the nodes that the Workspace has now.
        target_node_count: how many nodes there are to be: resource.count, or more if the model needs more; 0 until that
            is known.
        node_claims: the Machines or NodeClaims that the controller means to have, one for each node to be made.
        next_ordinal: the ordinal of the next claim, once claims were given back: no name is used twice.
        performance: what the workload was measured to do when it started.
    """

    observed_generation: int = 0
    state: WorkspaceState | None = None
    conditions: Annotated[tuple[Condition, ...], ListMap("type")] = ()
    worker_nodes: tuple[str, ...] = ()
    target_node_count: Int32 = 0
    node_claims: Annotated[tuple[WantedClaim, ...], ListMap("ordinal")] = ()
    next_ordinal: Int32 = 0
    performance: Performance | None = None

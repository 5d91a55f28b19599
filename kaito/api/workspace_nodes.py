"""The nodes of a Workspace: what is asked for (``resource``)."""

from typing import Annotated, Any, ClassVar

from kaito.api import keys
from kaito.api.text_rules import LABEL_KEY, LABEL_VALUE, PLACEHOLDER, found, matching, no_placeholder
from kaito.api.workspace_rules import kept, needed, same_text, unchanged, unwanted
from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import LabelSelector, LabelSelectorRequirement
from kaito.kube.model import KubeModel
from kaito.kube.schema_markers import Enum, Int32, Limits, Rule

_RESERVED = ", ".join(f"'{key}'" for key in keys.RESERVED_LABELS)
_KEY_PATTERN = f"^{LABEL_KEY}$"
_is_key = found(_KEY_PATTERN)
_KEY = "a key of a label is NAME or DOMAIN/NAME, the name at most 63 letters, digits, '-', '_' and '.'"

_LabelValue = Annotated[
    str,
    Limits(max_length=63),
    matching(
        f"^({LABEL_VALUE})?$",
        "not a label's value: use letters, digits, '-', '_' and '.', with a letter or digit at both ends",
    ),
]


class WorkspaceSelectorTerm(LabelSelectorRequirement):
    """A term of a label selector: a label, and what its value must be.

    Attributes:
        key: the key of the node's label, such as topology.kubernetes.io/zone.
        operator: what must be so: the label's value is In or NotIn values, or there is such a label (Exists) or none
            (DoesNotExist).
        values: the values that In and NotIn compare with, 1 to 32; none for Exists and DoesNotExist.
    """

    key: Annotated[str, Limits(min_length=1, max_length=316), matching(_KEY_PATTERN, _KEY)]
    values: Annotated[tuple[_LabelValue, ...], Limits(max_items=32)] = ()

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        needed(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            "values",
            "operators In and NotIn need at least one value",
            holds=lambda term: term.get("operator") not in ("In", "NotIn") or bool(term.get("values")),
        ),
        unwanted(
            "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
            "values",
            "operators Exists and DoesNotExist take no values",
            holds=lambda term: term.get("operator") in ("In", "NotIn") or not term.get("values"),
        ),
    )


def _well_formed_keys() -> Rule:
    def holds(labels: Any, _old: Any) -> bool:
        return all(len(key) <= 316 and _is_key(key) for key in labels)

    well_formed = f"size(key) <= 316 && key.matches(r'{_KEY_PATTERN}')"
    return Rule(
        f"self.all(key, {well_formed})",
        _KEY,
        f"""'"' + self.filter(key, !({well_formed}))[0] + '" is no key of a label: {_KEY.replace("'", "")}'""",
        holds=holds,
    )


class WorkspaceSelector(LabelSelector):
    """Labels that the nodes of a Workspace have: nodes that are made get them, existing ones are found by them.

    Attributes:
        match_labels: labels by key, such as apps: phi-3, at most 32. At least one is your own; those of kaito.sh are
            set by the controller, and left out of account.
        match_expressions: up to 32 further terms, all of which existing nodes must meet. Only without instanceType,
            since they do not tell which labels nodes that are made should get.
    """

    match_labels: Annotated[FrozenMap[str, _LabelValue], Limits(max_properties=32), _well_formed_keys()] = FrozenDict()
    match_expressions: Annotated[tuple[WorkspaceSelectorTerm, ...], Limits(max_items=32)] = ()

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        needed(
            f"has(self.matchLabels) && self.matchLabels.exists(key, !(key in [{_RESERVED}]))",
            "matchLabels",
            "give at least one label of your own under matchLabels, such as apps: phi-3; "
            "labels of kaito.sh and karpenter.kaito.sh are set by the controller",
            holds=lambda selector: any(key not in keys.RESERVED_LABELS for key in selector.get("matchLabels", ())),
        ),
    )


class PartitionSpec(KubeModel):
    """A share of the GPUs of existing nodes, instead of all of them.

    Attributes:
        mode: what the share is: mig for a slice of one GPU, accelerator for some of a node's whole GPUs.
        profile: the MIG profile of the slice, SLICESg.MEMORYgb, such as 1g.10gb. Required for mode mig, and refused for
            accelerator.
        count: how many whole GPUs of a node, at least 1. Required for mode accelerator, and refused for mig.
    """

    mode: Annotated[str, Enum("mig", "accelerator")]
    profile: Annotated[
        str,
        Limits(max_length=63),
        matching(
            "^([1-7]c[.])?[1-7]g[.][0-9]+gb([+](me|gfx)([.]all)?|-me)?$",
            "not a MIG profile: write SLICESg.MEMORYgb, such as 1g.10gb or 3g.40gb",
        ),
    ] = ""
    count: Annotated[Int32 | None, Limits(minimum=1)] = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        needed(
            "self.mode != 'mig' || has(self.profile)",
            "profile",
            "mode mig needs a profile, such as 1g.10gb",
            holds=lambda partition: partition.get("mode") != "mig" or "profile" in partition,
        ),
        unwanted(
            "self.mode != 'mig' || !has(self.count)",
            "count",
            "mode mig takes no count; for whole GPUs choose mode accelerator",
            holds=lambda partition: partition.get("mode") != "mig" or "count" not in partition,
        ),
        needed(
            "self.mode != 'accelerator' || has(self.count)",
            "count",
            "mode accelerator needs a count of GPUs, at least 1",
            holds=lambda partition: partition.get("mode") != "accelerator" or "count" in partition,
        ),
        unwanted(
            "self.mode != 'accelerator' || !has(self.profile)",
            "profile",
            "mode accelerator takes no profile; for a slice of a GPU choose mode mig",
            holds=lambda partition: partition.get("mode") != "accelerator" or "profile" not in partition,
        ),
    )


class ResourceSpec(KubeModel):
    """The nodes of a Workspace.

    Attributes:
        count: how many nodes there are at least, from 1 to 1000. Default: 1. A preset that does not fit on so many gets
            as many as it needs, and each is paid for. Can be changed at any time.
        instance_type: which nodes to make: a cloud's name for them, such as Standard_NC24ads_A100_v4 (see kaito skus),
            in any case of letters. Without it none is made, and existing nodes with the labels of labelSelector are
            used. Cannot be changed later, only cleared, and that where no nodes are made (--node-provisioner byo).
        label_selector: the labels that tell the Workspace's nodes from others: nodes that are made get them, existing
            ones are found by them. Cannot be changed later.
        preferred_nodes: names of existing nodes to take first. Deprecated and without effect: use labelSelector.
        partition: a share of a node's GPUs instead of all of them; only for inference on one existing node. Cannot be
            changed later. Refused so far: it is not carried out yet.
    """

    count: Annotated[Int32, Limits(minimum=1, maximum=1000)] = 1
    instance_type: Annotated[
        str,
        Limits(max_length=63),
        no_placeholder("an instance type that kaito skus lists"),
        matching(
            f"^({LABEL_VALUE})?$|{PLACEHOLDER}",
            "not an instance type: give one that kaito skus lists, such as Standard_NC24ads_A100_v4, without spaces",
        ),
    ] = ""
    label_selector: Annotated[WorkspaceSelector, unchanged("labelSelector")]
    preferred_nodes: Annotated[
        tuple[Annotated[str, Limits(min_length=1, max_length=253)], ...], Limits(max_items=1000)
    ] = ()
    partition: Annotated[PartitionSpec | None, unchanged("partition")] = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        same_text("instanceType", may_be_cleared=True),
        kept("partition"),
        unwanted(
            "!has(self.partition) || !has(self.count) || self.count == 1",
            "count",
            "a partition is a share of one node: leave count at 1",
            holds=lambda resource: "partition" not in resource or resource.get("count", 1) == 1,
        ),
        unwanted(
            "!has(self.partition) || !has(self.instanceType) || self.instanceType == ''",
            "partition",
            "a partition is taken from existing nodes only: leave instanceType out",
            holds=lambda resource: "partition" not in resource or not resource.get("instanceType"),
        ),
        unwanted(
            "!has(self.labelSelector.matchExpressions) || size(self.labelSelector.matchExpressions) == 0 "
            "|| !has(self.instanceType) || self.instanceType == ''",
            "labelSelector.matchExpressions",
            "nodes that are made get the labels of matchLabels, which expressions do not tell: use matchLabels, or "
            "leave instanceType out to use existing nodes",
            holds=lambda resource: (
                not resource.get("labelSelector", {}).get("matchExpressions") or not resource.get("instanceType")
            ),
        ),
    )

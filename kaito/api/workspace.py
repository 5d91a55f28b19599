"""What both served versions of Workspace have in common, which is all of it: a model to serve or tune, and its nodes.

Objects are stored in one version and pruned by its schema, whatever version they were written in, so both have one
shape. What the API server alone can decide is declared here as CEL rules. Rules over ``oldSelf`` look only at what has
changed, so that an object that breaks a newer rule can still lose its finalizers.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kaito.api import keys
from kaito.api.images import ConfigMapName, DataURL, ImageReference, SecretName
from kaito.api.workspace_rules import exactly_one, kept, on_create, same_text, unchanged
from kaito.kube.core_v1 import PodTemplateSpec, VolumeSource
from kaito.kube.crd_options import AGE, CRDOptions, PrinterColumn, condition_column
from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import Condition, LabelSelector, Time
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.kube.schema_markers import Int32, Limits, ListMap, OpenSchema, Rule

_RESERVED = ", ".join(f"'{key}'" for key in keys.RESERVED_LABELS)


class WorkspaceSelector(LabelSelector):
    """Labels that the nodes of a Workspace have: nodes that are made get them, existing ones are found by them."""

    match_labels: Annotated[FrozenMap[str, Annotated[str, Limits(max_length=63)]], Limits(max_properties=32)] = (
        FrozenDict()
    )

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"has(self.matchLabels) && self.matchLabels.exists(key, !(key in [{_RESERVED}]))",
            "give at least one label of your own under matchLabels, such as apps: phi-3; "
            "labels of kaito.sh and karpenter.kaito.sh are set by the controller",
        ),
    )


class PartitionSpec(KubeModel):
    """A share of a GPU node.

    Attributes:
        mode: mig for a slice of a GPU, accelerator for whole GPUs.
        profile: MIG profile such as 1g.10gb.
        count: whole GPUs, for mode accelerator.
    """

    mode: Literal["mig", "accelerator"]
    profile: Annotated[str, Limits(max_length=63)] = ""
    count: Annotated[Int32 | None, Limits(minimum=1)] = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode == 'mig' ? has(self.profile) && !has(self.count) : has(self.count) && !has(self.profile)",
            "mode mig needs a profile and no count; mode accelerator needs a count and no profile",
        ),
    )


class ResourceSpec(KubeModel):
    """The nodes of a Workspace.

    Attributes:
        count: how many nodes at least; presets may need more.
        instance_type: SKU of the nodes to make, such as Standard_NC24ads_A100_v4; without it, existing nodes are used.
        label_selector: labels that the nodes have.
        preferred_nodes: names of nodes to take first; deprecated.
        partition: a share of each node's GPUs.
    """

    count: Annotated[
        Int32,
        Limits(minimum=1, maximum=1000),
        unchanged("count"),
    ] = 1
    instance_type: Annotated[str, Limits(max_length=128)] = ""
    label_selector: Annotated[WorkspaceSelector, unchanged("labelSelector")]
    preferred_nodes: Annotated[tuple[str, ...], Limits(max_items=1000)] = ()
    partition: Annotated[
        PartitionSpec | None,
        unchanged("partition"),
    ] = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        same_text("instanceType"),
        kept("partition"),
    )


class PresetOptions(KubeModel):
    """Where a preset's image and weights are had from.

    Attributes:
        image: image of a private model; legacy.
        image_pull_secrets: Secrets to pull that image with; deprecated.
        model_access_secret: Secret with the key HF_TOKEN, for models that are behind a licence.
    """

    image: ImageReference | None = None
    image_pull_secrets: Annotated[tuple[SecretName, ...], Limits(max_items=10)] = ()
    model_access_secret: SecretName | None = None


class PresetSpec(KubeModel):
    """A model that comes with all that it takes to run it.

    Attributes:
        name: a name of the catalog (see ``kaito models``), or a Hugging Face id such as org/model.
        access_mode: public or private; deprecated.
        preset_options: where the image and the weights are had from.
    """

    name: Annotated[
        str,
        Limits(min_length=1, max_length=256),
        unchanged("the preset"),
    ]
    access_mode: Literal["public", "private"] = "public"
    preset_options: PresetOptions | None = None


class DataSource(KubeModel):
    """Where data or an adapter comes from: urls, a volume or an image.

    Attributes:
        name: what to call it; names the adapter.
        urls: addresses of files to download.
        volume_source: a volume as in a pod.
        image: an image whose /data is taken.
        image_pull_secrets: Secrets to pull the image with.
    """

    name: Annotated[str, Limits(max_length=63)] = ""
    urls: Annotated[tuple[DataURL, ...], Limits(min_items=1, max_items=100)] = ()
    volume_source: Annotated[VolumeSource | None, OpenSchema()] = None
    image: ImageReference | None = None
    image_pull_secrets: Annotated[tuple[SecretName, ...], Limits(max_items=10)] = ()


class DataDestination(KubeModel):
    """Where results go: a volume or an image.

    Attributes:
        volume_source: a volume as in a pod.
        image: the image to push.
        image_push_secret: Secret of type kubernetes.io/dockerconfigjson to push it with.
    """

    volume_source: Annotated[VolumeSource | None, OpenSchema()] = None
    image: ImageReference | None = None
    image_push_secret: SecretName | None = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("image", "volumeSource", message="give exactly one destination: image or volumeSource"),
        Rule(
            "!has(self.image) || has(self.imagePushSecret)",
            "an image needs imagePushSecret: the name of a docker-registry Secret that may push to it",
            reason="FieldValueRequired",
        ),
    )


class AdapterSpec(KubeModel):
    """A LoRA adapter on top of the preset's model.

    Attributes:
        source: the image or volume that holds the adapter; its name is the adapter's.
        strength: how much of the adapter is mixed in, as a decimal from 0 to 1; 1.0 when not given.
    """

    source: DataSource
    strength: Annotated[
        str | None,
        Limits(max_length=16),
        Rule(
            "self.matches('^(0|0?[.][0-9]+|0[.]|1|1[.]0*)$')",
            "not a strength: write a decimal from 0 to 1 in quotes",
            message_expression="""'"' + self + '" is not a strength: write a decimal from 0 to 1, such as "0.8"'""",
        ),
    ] = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.source.name) && self.source.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "an adapter needs source.name: lower case letters, digits and '-', with a letter or digit at both ends",
        ),
        Rule(
            "has(self.source.image) != has(self.source.volumeSource) && !has(self.source.urls)",
            "an adapter comes from exactly one of source.image and source.volumeSource; urls are for tuning data only",
        ),
    )


Adapters = Annotated[
    tuple[AdapterSpec, ...],
    Limits(max_items=10),
    Rule(
        "self.all(a, !has(a.source.name) || self.exists_one(b, has(b.source.name) && b.source.name == a.source.name))",
        "two adapters have one source.name: give each its own",
    ),
]


class InferenceSpec(KubeModel):
    """A model to serve: a preset, or a pod template of the user's own.

    Attributes:
        preset: the model.
        template: a pod template, used instead of a preset.
        config: ConfigMap with the key inference_config.yaml.
        adapters: adapters on top of the preset's model.
    """

    preset: PresetSpec | None = None
    template: Annotated[PodTemplateSpec | None, OpenSchema()] = None
    config: ConfigMapName | None = None
    adapters: Adapters = ()

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("preset", "template", message="give exactly one of preset and template"),
        kept("preset"),
        Rule(
            "!has(self.template) || !has(self.adapters) || size(self.adapters) == 0",
            "adapters need a preset, not a template",
        ),
    )


class TuningSpec(KubeModel):
    """A model to fine-tune.

    Attributes:
        preset: the model.
        method: lora or qlora.
        config: ConfigMap with the key training_config.yaml.
        input: the training data.
        output: where the adapter goes.
    """

    preset: PresetSpec
    method: Annotated[
        str,
        Limits(max_length=16),
        Rule("self.lowerAscii() in ['lora', 'qlora']", "not a tuning method: choose lora or qlora"),
        unchanged("the method"),
    ]
    config: ConfigMapName | None = None
    input: Annotated[
        DataSource,
        exactly_one(
            "urls", "image", "volumeSource", message="give exactly one source of data: urls, image or volumeSource"
        ),
        same_text("name"),
    ]
    output: DataDestination


class WantedClaim(KubeModel):
    """A claim that the controller means to have; written here before it is made, so that its name outlives a crash.

    Attributes:
        ordinal: which of the Workspace's nodes.
        incarnation: how often that node has been replaced.
        name: the name of the Machine or NodeClaim.
        not_before: when it may be made; a node that goes again and again is replaced more and more slowly.
    """

    ordinal: Int32
    incarnation: Int32
    name: str
    not_before: Time | None = None


class PerformanceMetric(KubeModel):
    """A figure that was measured.

    Attributes:
        description: what was measured.
        value: the figure, as a decimal.
        unit: its unit, such as tokens/min.
        config: how it was measured.
    """

    description: str = ""
    value: str = ""
    unit: str = ""
    config: FrozenMap[str, str] = FrozenDict()


class Performance(KubeModel):
    """What the workload was measured to do.

    Attributes:
        metrics: figures by name, such as peakTokensPerMinute.
    """

    metrics: FrozenMap[str, PerformanceMetric] = FrozenDict()


WorkspaceState = Literal["Pending", "Ready", "NotReady", "Running", "Succeeded", "Failed"]


class WorkspaceStatus(KubeModel):
    """What a Workspace has and how it is.

    Attributes:
        observed_generation: the generation that this status speaks of.
        state: in one word.
        conditions: what has been reached, and else what stands in the way.
        worker_nodes: names of the nodes.
        target_node_count: how many nodes the model needs.
        node_claims: the claims that the controller means to have.
        next_ordinal: the ordinal of the next claim, if claims were given back; no name is given twice.
        performance: what the workload was measured to do.
    """

    observed_generation: int = 0
    state: WorkspaceState | None = None
    conditions: Annotated[tuple[Condition, ...], ListMap("type")] = ()
    worker_nodes: tuple[str, ...] = ()
    target_node_count: Int32 = 0
    node_claims: Annotated[tuple[WantedClaim, ...], ListMap("ordinal")] = ()
    next_ordinal: Int32 = 0
    performance: Performance | None = None


class WorkspaceBase(Resource):
    """A model served or tuned on GPU nodes that are made for it.

    Attributes:
        resource: the nodes.
        inference: the model to serve.
        tuning: the model to fine-tune.
        status: what there is.
    """

    resource: ResourceSpec
    inference: InferenceSpec | None = None
    tuning: TuningSpec | None = None
    status: WorkspaceStatus = Field(default_factory=WorkspaceStatus)

    # An update of any kind, a finalizer's removal too, checks the root's rules: the first two let old objects be.
    cel_rules: ClassVar[tuple[Rule, ...]] = (
        on_create(exactly_one("inference", "tuning", message="give exactly one of inference and tuning")),
        on_create(
            Rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
                "metadata.name names a Service too: at most 63 lower case letters, digits and '-', a letter first",
            )
        ),
        kept("inference"),
        kept("tuning"),
    )


WORKSPACE_COLUMNS: tuple[PrinterColumn, ...] = (
    PrinterColumn("Instance", ".resource.instanceType"),
    condition_column("ResourceReady", keys.RESOURCE_READY),
    condition_column("InferenceReady", keys.INFERENCE_READY),
    condition_column("WorkspaceReady", keys.WORKSPACE_READY),
    condition_column("JobStarted", keys.JOB_STARTED, priority=1),
    PrinterColumn("TargetNodeCount", ".status.targetNodeCount", "integer", priority=1),
    PrinterColumn("State", ".status.state", priority=1),
    AGE,
)


def workspace_crd(*, storage: bool) -> CRDOptions:
    """Returns what both versions declare; they differ in which of them is stored."""
    return CRDOptions(
        columns=WORKSPACE_COLUMNS,
        short_names=("wk", "wks"),
        categories=("workspace",),
        storage=storage,
        labels=keys.CRD_LABELS,
    )

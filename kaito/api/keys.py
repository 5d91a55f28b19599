"""Keys of the product's contract: labels, annotations, finalizers, taints and condition types, by who carries them."""

from typing import Final

# Labels that tie what was made to the Workspace that it was made for.
WORKSPACE_LABEL: Final = "kaito.sh/workspace"
WORKSPACE_NAMESPACE_LABEL: Final = "kaito.sh/workspacenamespace"
WORKSPACE_UID_LABEL: Final = "kaito.sh/workspace-uid"
"""Ours alone: a Workspace that is re-created under its name inherits nothing from the one before."""
MADE_FOR_ANNOTATION: Final = "kaito.sh/made-for"
"""Ours alone, on a claim: NAMESPACE/NAME/UID of its Workspace; labels that people take off are put back from it."""
RAGENGINE_LABEL: Final = "kaito.sh/ragengine"
RAGENGINE_NAMESPACE_LABEL: Final = "kaito.sh/ragenginenamespace"
MACHINE_TYPE_LABEL: Final = "kaito.sh/machine-type"
MACHINE_TYPE_GPU: Final = "gpu"

RESERVED_LABELS: Final = (
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
    WORKSPACE_UID_LABEL,
    RAGENGINE_LABEL,
    RAGENGINE_NAMESPACE_LABEL,
    "karpenter.kaito.sh/workspace-name",
    "karpenter.kaito.sh/workspace-namespace",
    "karpenter.kaito.sh/inferenceset",
    "karpenter.kaito.sh/inferenceset-namespace",
)
"""Labels that a Workspace's labelSelector cannot ask for, since the controller sets them."""

# Annotations that a user puts on a Workspace.
ENABLE_LOAD_BALANCER_ANNOTATION: Final = "kaito.sh/enablelb"
RUNTIME_ANNOTATION: Final = "kaito.sh/runtime"
BYPASS_RESOURCE_CHECKS_ANNOTATION: Final = "kaito.sh/bypass-resource-checks"
NODE_IMAGE_FAMILY_ANNOTATION: Final = "kaito.sh/node-image-family"
NODE_CLASS_NAME_ANNOTATION: Final = "kaito.sh/node-class-name"
DISABLE_BENCHMARK_ANNOTATION: Final = "kaito.sh/disable-benchmark"
PERFORMANCE_MODE_ANNOTATION: Final = "kaito.sh/performance-mode"
USE_LOCAL_WEIGHTS_ANNOTATION: Final = "kaito.sh/use-local-weights"
MODEL_STREAMING_ANNOTATION: Final = "kaito.sh/model-streaming"

RESOLVED_MODEL_ANNOTATION: Final = "kaito.sh/resolved-model"
"""Ours alone, on a Workspace whose model the catalogue lacks: what the hub said of it, as JSON. Wins over the hub."""

# Karpenter's keys, on claims (Machine, NodeClaim) and nodes.
PROVISIONER_NAME_LABEL: Final = "karpenter.sh/provisioner-name"
NODEPOOL_LABEL: Final = "karpenter.sh/nodepool"
REGISTERED_LABEL: Final = "karpenter.sh/registered"
INITIALIZED_LABEL: Final = "karpenter.sh/initialized"
CAPACITY_TYPE_LABEL: Final = "karpenter.sh/capacity-type"
DO_NOT_SYNC_TAINTS_LABEL: Final = "karpenter.sh/do-not-sync-taints"
DO_NOT_DISRUPT_ANNOTATION: Final = "karpenter.sh/do-not-disrupt"
DO_NOT_EVICT_ANNOTATION: Final = "karpenter.sh/do-not-evict"
DO_NOT_CONSOLIDATE_ANNOTATION: Final = "karpenter.sh/do-not-consolidate"
LINKED_ANNOTATION: Final = "karpenter.sh/linked"
MANAGED_BY_ANNOTATION: Final = "karpenter.sh/managed-by"
TERMINATION_TIMESTAMP_ANNOTATION: Final = "karpenter.sh/nodeclaim-termination-timestamp"
NODE_HEARTBEAT_ANNOTATION: Final = "NodeHeartBeatTimeStamp"
DISRUPTED_TAINT: Final = "karpenter.sh/disrupted"
UNREGISTERED_TAINT: Final = "karpenter.sh/unregistered"
PROVISIONER_NAME_DEFAULT: Final = "default"
NODEPOOL_KAITO: Final = "kaito"

PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
PART_OF_KAITO: Final = "kaito"
CRD_LABELS: Final = {PART_OF_LABEL: PART_OF_KAITO}
"""Tells our CRDs from those of a Karpenter that was there before, which nothing here may overwrite."""

# Finalizers.
WORKSPACE_FINALIZER: Final = "workspace.finalizer.kaito.sh"
TERMINATION_FINALIZER: Final = "karpenter.sh/termination"
"""On a claim and on its Node."""

# Kubernetes' own labels of nodes, and what GPU nodes carry.
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
ARCH_LABEL: Final = "kubernetes.io/arch"
OS_LABEL: Final = "kubernetes.io/os"
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
REGION_LABEL: Final = "topology.kubernetes.io/region"
EXCLUDE_FROM_LOAD_BALANCERS_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
AGENT_POOL_LABEL: Final = "agentpool"
ACCELERATOR_LABEL: Final = "accelerator"
ACCELERATOR_NVIDIA: Final = "nvidia"
GPU_RESOURCE: Final = "nvidia.com/gpu"
SKU_TAINT: Final = "sku"
SKU_TAINT_GPU: Final = "gpu"

# Condition types of a Workspace.
NODES_READY: Final = "NodesReady"
NODE_CLAIM_READY: Final = "NodeClaimReady"
RESOURCE_READY: Final = "ResourceReady"
INFERENCE_READY: Final = "InferenceReady"
JOB_STARTED: Final = "JobStarted"
WORKSPACE_READY: Final = "WorkspaceReady"
"""What WORKSPACEREADY prints; stands beside `WORKSPACE_SUCCEEDED` with the same status."""
WORKSPACE_SUCCEEDED: Final = "WorkspaceSucceeded"
WORKSPACE_DELETING: Final = "WorkspaceDeleting"
BENCHMARK_COMPLETED: Final = "BenchmarkCompleted"
MODEL_MIRROR_READY: Final = "ModelMirrorReady"

# Condition types of a Machine: three dependents of the root Ready, and three that stand alone.
READY: Final = "Ready"
MACHINE_LAUNCHED: Final = "MachineLaunched"
MACHINE_REGISTERED: Final = "MachineRegistered"
MACHINE_INITIALIZED: Final = "MachineInitialized"
MACHINE_DRIFTED: Final = "MachineDrifted"
MACHINE_EMPTY: Final = "MachineEmpty"
MACHINE_EXPIRED: Final = "MachineExpired"
MACHINE_DEPENDENTS: Final = (MACHINE_LAUNCHED, MACHINE_REGISTERED, MACHINE_INITIALIZED)

# Condition types of a NodeClaim: three dependents of the root Ready, and those that stand alone.
LAUNCHED: Final = "Launched"
REGISTERED: Final = "Registered"
INITIALIZED: Final = "Initialized"
CONSOLIDATABLE: Final = "Consolidatable"
DRIFTED: Final = "Drifted"
DRAINED: Final = "Drained"
VOLUMES_DETACHED: Final = "VolumesDetached"
INSTANCE_TERMINATING: Final = "InstanceTerminating"
CONSISTENT_STATE_FOUND: Final = "ConsistentStateFound"
DISRUPTION_REASON: Final = "DisruptionReason"
NODE_CLAIM_DEPENDENTS: Final = (LAUNCHED, REGISTERED, INITIALIZED)

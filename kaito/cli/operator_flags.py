"""The flags that say what the operator does: which controllers, what nodes are, what runs models."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kaito.controllers.operator import CloudName, ControllerName, OperatorOptions


class Cloud(StrEnum):
    """Who makes nodes."""

    KWOK = "kwok"
    PROCESS = "process"


class NodeProvisioner(StrEnum):
    """Which kind of claim is made."""

    MACHINE = "machine"
    NODECLAIM = "nodeclaim"
    BYO = "byo"


class ModelRuntime(StrEnum):
    """What runs models."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


ControllersOption = Annotated[
    str,
    typer.Option(envvar="KAITO_CONTROLLERS", help="Which controllers run here, comma-separated."),
]
CloudOption = Annotated[
    Cloud | None,
    typer.Option(
        envvar="KAITO_CLOUD",
        help="Who makes GPU nodes; needed unless nodes are your own (byo), and then too while nodes are left that it "
        "made. kwok: fake ones, for trying things out. process: ones that run their pods as processes of this machine, "
        "by the agent of kaito devcluster up --node process.",
    ),
]
NodeProvisionerOption = Annotated[
    NodeProvisioner,
    typer.Option(
        envvar="KAITO_NODE_PROVISIONER",
        help="What a node is asked for with: a machine, a nodeclaim, or not at all (byo: bring your own nodes).",
    ),
]
RuntimeOption = Annotated[
    ModelRuntime | None,
    typer.Option(envvar="KAITO_RUNTIME", help="What runs models. Default: what suits model and GPU."),
]
InferenceImageOption = Annotated[
    str | None, typer.Option(envvar="KAITO_INFERENCE_IMAGE", help="Image of the inference server.")
]

ALL = "workspace,machine,gpu-provisioner"


@dataclass(frozen=True)
class OperatorFlags:
    """The flags that say what the operator does."""

    controllers: ControllersOption = ALL
    cloud: CloudOption = None
    node_provisioner: NodeProvisionerOption = NodeProvisioner.MACHINE
    runtime: RuntimeOption = None
    inference_image: InferenceImageOption = None

    def options(self) -> "OperatorOptions":
        """What the flags come to.

        Raises:
            ValueError: one is none that can be used.
        """
        from kaito.controllers.operator import OperatorOptions
        from kaito.controllers.workspace.workload import DEFAULT_IMAGE, WorkloadOptions

        return OperatorOptions(
            controllers=parse_controllers(self.controllers),
            cloud=_cloud(self.cloud, self.node_provisioner),
            node_provisioner=self.node_provisioner.value,
            runtime=self.runtime.value if self.runtime is not None else None,
            workload=WorkloadOptions(image=self.inference_image or DEFAULT_IMAGE),
        )


def parse_controllers(text: str) -> "tuple[ControllerName, ...]":
    """Reads a comma-separated list of controller names.

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    from kaito.controllers.operator import ALL_CONTROLLERS

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ALL_CONTROLLERS]
    if unknown or not names:
        given = ", ".join(unknown) or "nothing"
        raise ValueError(f"--controllers: {given}; choose from {', '.join(ALL_CONTROLLERS)}")
    return tuple(name for name in ALL_CONTROLLERS if name in names)


def _cloud(cloud: Cloud | None, node_provisioner: NodeProvisioner) -> "CloudName | None":
    match cloud:
        case Cloud.KWOK | Cloud.PROCESS:
            return cloud.value
        case None if node_provisioner is NodeProvisioner.BYO:
            return None
        case None:
            # No default: fake nodes in a real cluster would look like a working one.
            choices = ", ".join(Cloud)
            raise ValueError(f"--cloud is needed to make nodes; choose from {choices} (or --node-provisioner byo)")

"""PodEvents: tells what happens to pods in a kubelet's words, so that `kubectl describe` reads as usual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kaito.devcluster.process_nodes.hooks import HookKind
from kaito.devcluster.process_nodes.pod_plan import DEADLINE
from kaito.devcluster.process_nodes.pod_records import PULL_FAILED, Verdict
from kaito.devcluster.process_nodes.pod_status import name_of
from kaito.devcluster.process_nodes.probes import ProbeKind
from kaito.devcluster.process_nodes.sandbox import NotStarted
from kaito.kube.core_v1 import Pod
from kaito.kube.pod_v1 import Container
from kaito.runtime.events import EventRecorder

_NORMAL: Final = "Normal"
_WARNING: Final = "Warning"


class PodEvents:
    """Records the events of pods.

    Args:
        recorder: writes them.
    """

    def __init__(self, recorder: EventRecorder) -> None:
        self._tell: Callable[[Pod, str, str, str, str], None] = recorder.event

    def started(self, pod: Pod, container: Container) -> None:
        """A container runs."""
        present = f'Container image "{container.image}" already present on machine'
        self._tell(pod, _NORMAL, "Pulled", "Pull", present)
        self._tell(pod, _NORMAL, "Created", "Create", f"Created container: {container.name}")
        self._tell(pod, _NORMAL, "Started", "Start", f"Started container {container.name}")

    def hook_failed(self, pod: Pod, container: Container, kind: HookKind, fault: str) -> None:
        """A hook did not do what it should; after a postStart hook the container is ended for it."""
        said = f'Container "{container.name}" in Pod "{name_of(pod)}": {fault}'
        if kind is HookKind.PRE_STOP:
            self._tell(pod, _WARNING, "FailedPreStopHook", "Kill", said)
            return
        self._tell(pod, _WARNING, "FailedPostStartHook", "Start", said)
        self._tell(pod, _NORMAL, "Killing", "Kill", "FailedPostStartHook")

    def failed(self, pod: Pod, verdict: Verdict) -> None:
        """The agent has failed a pod."""
        kind = _NORMAL if verdict == DEADLINE else _WARNING
        self._tell(pod, kind, verdict.reason, "Sync", verdict.message)

    def refused(self, pod: Pod, container: Container, error: NotStarted) -> None:
        """A container could not be started."""
        if error.reason in PULL_FAILED:
            said = f'Failed to pull image "{container.image}": {error.message}'
            self._tell(pod, _WARNING, "Failed", "Pull", said)
            self._tell(pod, _WARNING, "Failed", "Start", f"Error: {error.reason}")
        elif error.reason == "InvalidImageName":
            self._tell(pod, _WARNING, "InspectFailed", "Pull", error.message)
        else:
            self._tell(pod, _WARNING, "Failed", "Create", f"Error: {error.message}")

    def pull_backs_off(self, pod: Pod, container: Container) -> None:
        """An image is tried again, but later."""
        self._tell(pod, _NORMAL, "BackOff", "Pull", f'Back-off pulling image "{container.image}"')
        self._tell(pod, _WARNING, "Failed", "Start", "Error: ImagePullBackOff")

    def backs_off(self, pod: Pod, container: Container) -> None:
        """A container is started again, but later."""
        said = f"Back-off restarting failed container {container.name} in pod {name_of(pod)}"
        self._tell(pod, _WARNING, "BackOff", "Restart", said)

    def not_prepared(self, pod: Pod, error: NotStarted) -> None:
        """A volume is not there."""
        self._tell(pod, _WARNING, error.reason, "Mount", error.message)

    def unhealthy(self, pod: Pod, kind: ProbeKind, fault: str) -> None:
        """A probe failed."""
        self._tell(pod, _WARNING, "Unhealthy", "Probe", f"{kind} probe failed: {fault}")

    def condemned(self, pod: Pod, container: Container, kind: ProbeKind) -> None:
        """A container is ended since a probe has failed too often."""
        said = f"Container {container.name} failed {kind.lower()} probe, will be restarted"
        self._tell(pod, _NORMAL, "Killing", "Kill", said)

    def stopping(self, pod: Pod, container: Container) -> None:
        """A container is ended with its pod."""
        self._tell(pod, _NORMAL, "Killing", "Kill", f"Stopping container {container.name}")

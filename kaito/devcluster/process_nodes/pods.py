"""PodReconciler: gives each pod of a process node a worker, writes what came of it, and ends pods that are gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from kaito.client.client import Client
from kaito.client.errors import Conflict, NotFound
from kaito.devcluster.process_nodes import admission
from kaito.devcluster.process_nodes.address_pool import AddressPool
from kaito.devcluster.process_nodes.addresses import LABEL
from kaito.devcluster.process_nodes.pod_events import PodEvents
from kaito.devcluster.process_nodes.pod_plan import FAILED, SUCCEEDED, Plan
from kaito.devcluster.process_nodes.pod_records import Verdict
from kaito.devcluster.process_nodes.pod_status import changes, status_of
from kaito.devcluster.process_nodes.pod_worker import PodWorker, Tools
from kaito.devcluster.process_nodes.sandbox import Sandbox
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.object_key import ObjectKey
from kaito.runtime.controller import Controller
from kaito.runtime.events import EventRecorder
from kaito.runtime.reconciler import DONE, Result
from kaito.runtime.watch import Watch

CONCURRENCY = 16

MakeSandbox = Callable[[Pod, str], Sandbox]
"""Makes the sandbox of a pod that has this address."""


class PodReconciler:
    """Runs the pods of process nodes.

    Args:
        client: reads Pods and Nodes from a cache, and writes.
        events: tells people.
        tools: what all pods share.
        make_sandbox: of each pod.
    """

    def __init__(self, client: Client, events: EventRecorder, tools: Tools, make_sandbox: MakeSandbox) -> None:
        self._client = client
        self._events = PodEvents(events)
        self._tools = tools
        self._make_sandbox = make_sandbox
        self._workers: dict[ObjectKey, PodWorker] = {}
        self._addresses = AddressPool()
        self._knows_addresses = False
        self.controller: Controller[Pod] = Controller(
            Pod,
            self,
            name="pods",
            watches=[
                Watch(
                    Node,
                    references=lambda pod: pod.spec.node_name,
                    by=lambda node: node.metadata.name,
                )
            ],
            concurrency=CONCURRENCY,
        )

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """Moves one pod a step on."""
        pod = await self.find(key)
        worker = self._workers.get(key)
        if worker is not None and (pod is None or pod.metadata.uid != worker.uid):
            left = await worker.step(None)
            if not left.over:
                return self._again(left)
            await self._drop(key, worker)
            worker = None
        if pod is None:
            return DONE
        if worker is None:
            refused = await self._refusal(pod) if admission.is_new(pod) else None
            worker = await self._worker_for(pod)
            if refused is not None:
                worker.fail(refused)
        try:
            left = await worker.step(pod)
        except Exception:
            # Else a container that has ended would be told to run, and be sent requests, for as long as this lasts.
            await self._write(pod, worker)
            raise
        await self._write(pod, worker)
        worker.settle()
        if left.over and pod.metadata.deletion_timestamp is not None:
            await self._delete(pod)
            await self._drop(key, worker)
            return DONE
        return self._again(left)

    async def aclose(self) -> None:
        """Asks containers nothing any more; their processes end with their owner."""
        for worker in self._workers.values():
            await worker.abandon()

    async def find(self, key: ObjectKey) -> Pod | None:
        """The pod, if it is there and bound to a node of ours."""
        try:
            pod = await self._client.get(Pod, key)
            if not pod.spec.node_name:
                return None
            node = await self._client.get(Node, ObjectKey(pod.spec.node_name))
        except NotFound:
            return None
        return pod if node.metadata.labels.get(LABEL) == "true" else None

    async def _refusal(self, pod: Pod) -> Verdict | None:
        try:
            node = await self._client.get(Node, ObjectKey(pod.spec.node_name or ""))
        except NotFound:
            return None  # it went this moment, and the pod goes with it
        every = [each for each in await self._client.list(Pod) if each.metadata.uid != pod.metadata.uid]
        return admission.refusal(pod, node, [each for each in every if self._is_in(each)])

    def _is_in(self, pod: Pod) -> bool:
        worker = self._workers.get(pod.key)
        if worker is None or worker.uid != pod.metadata.uid:
            return not admission.is_new(pod)
        return worker.verdict is None

    async def _worker_for(self, pod: Pod) -> PodWorker:
        if not self._knows_addresses:
            # Before the first new pod gets one: those of pods that an earlier agent ran.
            for each in await self._client.list(Pod):
                if each.status.pod_ip and each.status.phase not in (SUCCEEDED, FAILED):
                    self._addresses.take(each.metadata.uid, each.status.pod_ip)
            self._knows_addresses = True
        key = pod.key
        sandbox = self._make_sandbox(pod, self._addresses.take(pod.metadata.uid, pod.status.pod_ip))
        worker = PodWorker(pod, sandbox, self._tools, self._events, lambda: self._poke(key))
        self._workers[key] = worker
        return worker

    def _poke(self, key: ObjectKey) -> None:
        with suppress(RuntimeError):  # it does not run any more
            self.controller.enqueue(key)

    def _again(self, left: Plan) -> Result:
        if left.starts or left.stops or left.kills:
            return Result(requeue_after=timedelta())
        if left.wake_at is None:
            return DONE
        return Result(requeue_after=max(timedelta(), left.wake_at - self._tools.now()))

    async def _drop(self, key: ObjectKey, worker: PodWorker) -> None:
        self._workers.pop(key, None)
        self._addresses.release(worker.sandbox.address)
        await worker.close()

    async def _write(self, pod: Pod, worker: PodWorker) -> None:
        changed = changes(pod, status_of(pod, worker.seen()))
        if changed:
            patch = {"metadata": {"uid": pod.metadata.uid}, "status": changed}
            # Gone, or another one of its name: an event will say so.
            with suppress(NotFound, Conflict):
                await self._client.status.patch(Pod, pod.key, patch, type="strategic")

    async def _delete(self, pod: Pod) -> None:
        if pod.metadata.deletion_grace_period_seconds == 0 and pod.metadata.finalizers:
            return  # it goes with its last finalizer
        with suppress(NotFound, Conflict):
            await self._client.delete(Pod, pod.key, uid=pod.metadata.uid, grace_period_s=0)

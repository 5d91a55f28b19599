"""Claims and nodes as parts of the tree; pure."""

from __future__ import annotations

from kaito.api import keys
from kaito.cli.explain.seen import Seen
from kaito.cli.explain.tree import Mark, Part
from kaito.controllers.claims import NOT_TAKEN_UP, Claim, first_unmet, instance_type_of, kind_of
from kaito.controllers.machine.node import initialization_fault, not_ready
from kaito.controllers.workspace.release import what_remains
from kaito.kube.conditions import find, is_true
from kaito.kube.core_v1 import Node

PATIENCE_S = 120.0
"""For how long what others do by themselves (take up a claim, report a node) is no fault yet."""
_LAUNCHING = frozenset({"Creating", "InstanceGoing", "AwaitingReconciliation", ""})
_PROCESS_NODE_LABEL = "kaito.sh/process-node"
_NO_CLAIM_RIGHTS = ("machines.karpenter.sh", "nodeclaims.karpenter.sh")


def supply_parts(seen: Seen) -> tuple[Part, ...]:
    """The claims with their nodes, those on record that are not there, and nodes without a claim."""
    claims = sorted(seen.claims, key=lambda claim: claim.metadata.name)
    parts = [_claim(seen, claim) for claim in claims]
    parts += _unmade(seen)
    claimed = {claim.status.node_name for claim in claims}
    parts += [_node(seen, node, None) for node in seen.nodes if node.metadata.name not in claimed]
    parts += [_gone(name) for name in sorted(seen.nodes_gone - claimed)]
    if seen.is_withheld("nodes"):
        names = set(seen.workspace.status.worker_nodes) - claimed
        parts += [_withheld_node(seen, name) for name in sorted(names)]
    if not claims and seen.is_withheld(*_NO_CLAIM_RIGHTS):
        parts.append(Part("Machine", "?", Mark.UNKNOWN, seen.needs(*_NO_CLAIM_RIGHTS)))
    return tuple(parts)


def _claim(seen: Seen, claim: Claim) -> Part:
    part = _claim_alone(seen, claim)
    name = claim.status.node_name
    if not name:
        return part
    node = next((each for each in seen.nodes if each.metadata.name == name), None)
    if node is not None:
        return part.holding(_node(seen, node, claim))
    return part.holding(_gone(name) if name in seen.nodes_gone else _withheld_node(seen, name))


def _claim_alone(seen: Seen, claim: Claim) -> Part:
    kind, name, sku = kind_of(claim), claim.metadata.name, instance_type_of(claim)
    told = f"{sku}, " if sku else ""
    made = seen.since(claim.metadata.creation_timestamp)
    if claim.metadata.deletion_timestamp is not None:
        says = f"is being deleted{seen.lasting(claim.metadata.deletion_timestamp)}: {what_remains(claim)}"
        return Part(claim.kind, name, Mark.UNDER_WAY, says)
    if is_true(claim.status.conditions, keys.READY):
        return Part(claim.kind, name, Mark.OK, f"{told}ready" + (f", made{made}" if made else ""))
    step, why = first_unmet(kind, claim)
    condition = find(claim.status.conditions, step)
    says = f"{told}{step} is not True: {why}"
    if why == NOT_TAKEN_UP:
        late = seen.age(claim.metadata.creation_timestamp) > PATIENCE_S
        advice = "is the operator running, with its machine controller (kaito manager --controllers …,machine)?"
        return Part(claim.kind, name, Mark.FAILED if late else Mark.UNDER_WAY, says, advice if late else "")
    if condition is not None and _is_final(step == kind.launched, condition.status, condition.reason or ""):
        return Part(claim.kind, name, Mark.FAILED, says, _claim_advice(why, claim))
    return Part(claim.kind, name, Mark.UNDER_WAY, says)


def _is_final(launching: bool, status: str, reason: str) -> bool:
    """False is said of what will not come by waiting; a launch that is tried again and again stays Unknown."""
    return status == "False" or (launching and reason not in _LAUNCHING)


def _claim_advice(why: str, claim: Claim) -> str:
    if "quota" in why.lower():
        return f"ask the cloud for more quota of {instance_type_of(claim)}, or choose another resource.instanceType"
    return (
        f"see what the cloud says of {instance_type_of(claim) or 'the instance'}; another resource.instanceType or "
        f"region may have some. kubectl describe {kind_of(claim).name} {claim.metadata.name} has all of it"
    )


def _unmade(seen: Seen) -> list[Part]:
    if seen.is_withheld(*_NO_CLAIM_RIGHTS):
        return []
    there = {claim.metadata.name for claim in seen.claims}
    wanted = [claim for claim in seen.workspace.status.node_claims if claim.name not in there]
    return [Part("claim", claim.name, Mark.UNDER_WAY, "is to be made") for claim in wanted]


def _node(seen: Seen, node: Node, claim: Claim | None) -> Part:
    name = node.metadata.name
    reported = find(node.status.conditions, "Ready")
    since = reported.last_transition_time if reported is not None else node.metadata.creation_timestamp
    if (why := not_ready(node)) is not None:
        # Of a node that fell silent that is said only when it has been silent for long.
        silent = reported is not None and reported.status == "Unknown"
        failed = silent or seen.age(since) > PATIENCE_S
        says = f"not ready{seen.lasting(since)}: {why}"
        return Part("Node", name, Mark.FAILED if failed else Mark.UNDER_WAY, says, _node_advice(node) if failed else "")
    if node.metadata.deletion_timestamp is not None:
        says = f"is being deleted{seen.lasting(node.metadata.deletion_timestamp)}"
        return Part("Node", name, Mark.UNDER_WAY, says)
    fault = initialization_fault(node, claim) if claim is not None else None
    if fault is not None:
        late = seen.age(since) > PATIENCE_S
        advice = f"what puts that right on new nodes (a device plugin, say) does not: kubectl describe node {name}"
        mark = Mark.FAILED if late else Mark.UNDER_WAY
        return Part("Node", name, mark, fault[1].removeprefix(f"node {name} "), advice if late else "")
    cordoned = ", cordoned: no new pod comes here" if node.spec.unschedulable else ""
    return Part("Node", name, Mark.OK, f"ready{seen.lasting(since)}{cordoned}")


def _node_advice(node: Node) -> str:
    name = node.metadata.name
    if _PROCESS_NODE_LABEL in node.metadata.labels:
        return "is its agent running (kaito devcluster up --node process)? It logs to logs/process-nodes.log"
    return f"look at its kubelet, and at its instance: kubectl describe node {name}"


def _gone(name: str) -> Part:
    return Part("Node", name, Mark.FAILED, "is gone", "a node that was made for the Workspace is made anew; wait")


def _withheld_node(seen: Seen, name: str) -> Part:
    return Part("Node", name, Mark.UNKNOWN, seen.needs("nodes"))

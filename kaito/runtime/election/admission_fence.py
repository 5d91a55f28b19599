"""The fence in the API server: a ValidatingAdmissionPolicy that lets only the pod named in the Lease write.

What this process' own fence cannot stop, a write that was sent in time and arrives late, the API server refuses. It
tells processes apart by what it knows itself: the tokens that Kubernetes mounts into pods are bound to them, and their
name and uid come with each request as ``extra`` of the user. Other credentials say nothing of the kind, so this works
in pods only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kaito.client.client import Client
from kaito.client.errors import KubeError
from kaito.kube.admissionregistration_v1 import RuleWithOperations
from kaito.kube.authentication_v1 import SelfSubjectReview, UserInfo
from kaito.kube.coordination_v1 import Lease
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.access import EVERYWHERE, Access

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
KEEPER = "kaito.keeps-leases-as-parameters"
OPERATIONS: Mapping[str, str] = {
    "create": "CREATE",
    "update": "UPDATE",
    "patch": "UPDATE",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}

# A name of a pod holds no "_": what stands before one in the identity of a holder is unambiguous.
_ASKING = f"""
has(request.userInfo.extra) && '{POD_NAME}' in request.userInfo.extra && '{POD_UID}' in request.userInfo.extra
? request.userInfo.extra['{POD_NAME}'][0] + '_' + request.userInfo.extra['{POD_UID}'][0] + '_'
: '(no pod)'
"""
_NAMED = "(variables.holder == '' ? 'nobody' : variables.holder)"
_PARAM_KIND = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
_HOLDER = "has(params.spec) && has(params.spec.holderIdentity) ? params.spec.holderIdentity : ''"


class ValidatingAdmissionPolicy(Resource, group="admissionregistration.k8s.io", version="v1", namespaced=False):
    """What is admitted, as expressions; its ``spec`` is kept as it is."""


class ValidatingAdmissionPolicyBinding(Resource, group="admissionregistration.k8s.io", version="v1", namespaced=False):
    """Where a policy holds, and with which parameter; its ``spec`` is kept as it is."""


class NotInPod(KubeError):
    """The credentials are of no pod, so that the API server cannot tell this process from others."""


class Written(NamedTuple):
    """What somebody writes: a resource (``widgets``, ``widgets/status``) and the operation."""

    group: str
    resource: str
    operation: str


def written(accesses: Iterable[Access]) -> frozenset[Written]:
    """What permissions allow to write."""
    return frozenset(
        Written(access.kind.resource_type.group, access.resource, OPERATIONS[verb])
        for access in accesses
        for verb in access.verbs
        if verb in OPERATIONS
    )


async def identity_of_pod(client: Client, suffix: str) -> str:
    """An identity for the holder of a Lease by which the API server knows this pod.

    Raises:
        NotInPod: the credentials are not bound to one.
        KubeError: the API server cannot be asked.
    """
    user = await whoami(client)
    name, uid = (user.extra.get(key, ("",))[0] for key in (POD_NAME, POD_UID))
    if not name or not uid:
        raise NotInPod(
            f"admission fence: the API server knows this process as {user.username}, of no pod; it needs the token "
            f"that Kubernetes mounts into a pod. Leave admission_fence out"
        )
    return f"{name}_{uid}_{suffix}"


async def whoami(client: Client) -> UserInfo:
    """As whom the API server knows this client."""
    return (await client.create(SelfSubjectReview())).status.user_info


def policy(
    lease: ObjectKey, username: str, what: Iterable[Written]
) -> tuple[ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding]:
    """The policy and its binding, which refuse these writes of a user to all pods but the one that the Lease names.

    Args:
        lease: the parameter. While there is none, nobody is refused.
        username: whose writes are looked at, such as ``system:serviceaccount:NAMESPACE:NAME``; others are let through.
        what: which writes.
    """
    name = policy_name(lease)
    spec = {
        "failurePolicy": "Fail",
        "paramKind": _PARAM_KIND,
        "matchConstraints": {"resourceRules": [rule.to_dict() for rule in _rules(what)]},
        "matchConditions": [{"name": "ours", "expression": f"request.userInfo.username == {_quoted(username)}"}],
        "variables": [
            {"name": "asking", "expression": _ASKING.strip()},
            {"name": "holder", "expression": _HOLDER},
        ],
        "validations": [
            {
                "expression": "variables.holder.startsWith(variables.asking)",
                "messageExpression": f"'lease {lease} is held by ' + {_NAMED} + ', and not by ' + variables.asking",
                "reason": "Forbidden",
            }
        ],
    }
    # The server looks for the parameter before it looks at who asks: to deny without one would stop everybody's writes.
    binding = {
        "policyName": name,
        "paramRef": {"name": lease.name, "namespace": lease.namespace, "parameterNotFoundAction": "Allow"},
        "validationActions": ["Deny"],
    }
    return _pair(name, spec, binding)


def keeper() -> tuple[ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding]:
    """A policy and its binding that look at no request, and make the API server watch Leases for as long as they stay.

    When its last binding with Leases as the parameter is gone for a second, the API server stops to watch them until it
    is started again (kubernetes/kubernetes#130887, open in 1.36): every fence that comes later would see the Leases of
    that moment, and stop nobody, or everybody.
    """
    rule = RuleWithOperations(
        operations=("CONNECT",), api_groups=("coordination.k8s.io",), api_versions=("v1",), resources=("leases",)
    )
    spec = {
        "failurePolicy": "Ignore",
        "paramKind": _PARAM_KIND,
        "matchConstraints": {"resourceRules": [rule.to_dict()]},
        "validations": [{"expression": "true"}],
    }
    binding = {
        "policyName": KEEPER,
        "paramRef": {"name": "none", "namespace": "default", "parameterNotFoundAction": "Allow"},
        "validationActions": ["Deny"],
    }
    return _pair(KEEPER, spec, binding)


def _pair(
    name: str, spec: Mapping[str, object], binding: Mapping[str, object]
) -> tuple[ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding]:
    metadata = ObjectMeta(name=name)
    return (
        ValidatingAdmissionPolicy.model_validate({"metadata": metadata, "spec": spec}),
        ValidatingAdmissionPolicyBinding.model_validate({"metadata": metadata, "spec": binding}),
    )


def policy_name(lease: ObjectKey) -> str:
    """The name of policy and binding; cluster-wide, so the namespace is in it."""
    return f"{lease.namespace}.{lease.name}.leader"


async def install(client: Client, lease: ObjectKey, what: Iterable[Written]) -> None:
    """Installs the policy for who this client is, its binding and the `keeper`, or brings them up to date.

    Raises:
        Forbidden: it may not.
        KubeError: the API server cannot be asked.
    """
    for each in (*keeper(), *policy(lease, (await whoami(client)).username, what)):
        await client.apply(each, force=True)


def needs() -> Sequence[Access]:
    """What `install` needs to be allowed to do; to read every Lease is what the server asks of who names one there."""
    kinds = (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)
    return [Access(Lease, "get", namespace=EVERYWHERE), *(Access(kind, "get", "create", "patch") for kind in kinds)]


def _rules(what: Iterable[Written]) -> list[RuleWithOperations]:
    operations: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group, resource, operation in what:
        operations[group, resource].add(operation)
    return [
        RuleWithOperations(
            operations=tuple(sorted(found)), api_groups=(group,), api_versions=("*",), resources=(resource,)
        )
        for (group, resource), found in sorted(operations.items())
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

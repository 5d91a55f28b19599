"""Roles: the objects that give a ServiceAccount the rules that were worked out; for `kubectl apply`."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.kube.core_v1 import ServiceAccount
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject
from kaito.kube.resource import Resource
from kaito.runtime.rbac import Rules


def role_objects(name: str, account: ObjectKey, rules: Rules) -> list[Resource]:
    """The ServiceAccount, a ClusterRole for what is needed everywhere, a Role for each namespace, and their bindings.

    Args:
        name: of the roles and bindings.
        account: the ServiceAccount; its namespace must exist.
        rules: what it may do.

    Raises:
        ValueError: the account names no namespace.
    """
    if not account.namespace:
        raise ValueError(f"ServiceAccount {account.name}: name its namespace, as NAMESPACE/NAME")
    made: list[Resource] = [ServiceAccount(metadata=_metadata(account.name, account.namespace))]
    if rules.cluster:
        made.append(ClusterRole(metadata=_metadata(name), rules=rules.cluster))
        made.append(
            ClusterRoleBinding(
                metadata=_metadata(name), role_ref=_reference("ClusterRole", name), subjects=_subjects(account)
            )
        )
    for namespace, found in rules.namespaced.items():
        made += _in_namespace(name, namespace, account, Role(metadata=_metadata(name, namespace), rules=found))
    return made


def _in_namespace(name: str, namespace: str, account: ObjectKey, role: Role) -> Iterable[Resource]:
    metadata = _metadata(name, namespace)
    return role, RoleBinding(metadata=metadata, role_ref=_reference("Role", name), subjects=_subjects(account))


def _metadata(name: str, namespace: str | None = None) -> ObjectMeta:
    return ObjectMeta(name=name, namespace=namespace) if namespace else ObjectMeta(name=name)


def _reference(kind: str, name: str) -> RoleRef:
    return RoleRef(api_group="rbac.authorization.k8s.io", kind=kind, name=name)


def _subjects(account: ObjectKey) -> tuple[Subject, ...]:
    return (Subject(kind="ServiceAccount", name=account.name, namespace=account.namespace or ""),)

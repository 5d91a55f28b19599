"""Kubernetes' own vocabulary in Python: the names that nine users in ten need; the rest is in the modules beside."""

from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.autoscaling_v1 import Scale
from kaito.kube.batch_v1 import Job
from kaito.kube.conditions import is_true, set_condition
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import ConfigMap, Container, Namespace, Node, Pod, PodSpec, PodTemplateSpec, Secret, Service
from kaito.kube.crd import custom_resource_definition
from kaito.kube.crd_options import AGE, CRDOptions, PrinterColumn, condition_column
from kaito.kube.frozen import FrozenDict, FrozenJson, FrozenMap
from kaito.kube.meta_v1 import Condition, LabelSelector, ObjectMeta, OwnerReference, Time
from kaito.kube.metadata_only import MetadataOnly, MetadataOnlyObject
from kaito.kube.model import FrozenModelError, KubeModel
from kaito.kube.object_key import ObjectKey
from kaito.kube.quantity import Quantity
from kaito.kube.resource import Resource, ResourceType
from kaito.kube.schema_markers import Limits, ListMap, OpenSchema, Rule
from kaito.kube.selectors import matches, parse_selector
from kaito.kube.unstructured import Unstructured, UnstructuredObject

__all__ = [
    "AGE",
    "CRDOptions",
    "Condition",
    "ConfigMap",
    "Container",
    "Deployment",
    "FrozenDict",
    "FrozenJson",
    "FrozenMap",
    "FrozenModelError",
    "Job",
    "KubeModel",
    "LabelSelector",
    "Lease",
    "Limits",
    "ListMap",
    "MetadataOnly",
    "MetadataOnlyObject",
    "Namespace",
    "Node",
    "ObjectKey",
    "ObjectMeta",
    "OpenSchema",
    "OwnerReference",
    "Pod",
    "PodSpec",
    "PodTemplateSpec",
    "PrinterColumn",
    "Quantity",
    "Resource",
    "ResourceType",
    "Rule",
    "Scale",
    "Secret",
    "Service",
    "StatefulSet",
    "Time",
    "Unstructured",
    "UnstructuredObject",
    "condition_column",
    "custom_resource_definition",
    "is_true",
    "matches",
    "parse_selector",
    "set_condition",
]

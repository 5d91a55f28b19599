"""kaito.kube.metadata_only: the metadata of a kind, under its own name."""

from __future__ import annotations

import json

from kaito.kube import Deployment, MetadataOnly, Node

PARTIAL = {
    "apiVersion": "meta.k8s.io/v1",
    "kind": "PartialObjectMetadata",
    "metadata": {"name": "a", "namespace": "ns", "labels": {"app": "web"}, "managedFields": [{"manager": "m"}]},
}
DeploymentMetadata = MetadataOnly(Deployment)


def test_it_has_the_place_of_its_kind_and_the_same_class_each_time() -> None:
    assert DeploymentMetadata.resource_type == Deployment.resource_type
    assert MetadataOnly(Node).resource_type == Node.resource_type
    assert MetadataOnly(Deployment) is DeploymentMetadata
    assert DeploymentMetadata.__name__ == "DeploymentMetadata"


def test_what_comes_back_says_the_kind_itself_and_not_the_wires_name_for_a_part_of_it() -> None:
    read = DeploymentMetadata.model_validate_json(json.dumps(PARTIAL))
    assert (read.api_version, read.kind) == ("apps/v1", "Deployment")
    assert read.to_dict() == {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": PARTIAL["metadata"]}
    assert read.metadata.labels == {"app": "web"}


def test_a_whole_object_from_a_server_that_cuts_nothing_off_is_cut_here() -> None:
    whole = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 1}}
    read = DeploymentMetadata.model_validate_json(json.dumps(whole))
    assert read.to_dict() == {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}


def test_it_is_frozen_and_can_be_edited() -> None:
    draft = DeploymentMetadata.model_validate(PARTIAL).edit()
    draft.metadata.labels = {"app": "api"}
    assert draft.to_dict()["metadata"]["labels"] == {"app": "api"}


def test_it_asks_for_parts_with_plain_json_as_the_last_resort() -> None:
    assert DeploymentMetadata.accept == (
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
    )
    assert DeploymentMetadata.list_accept == (
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    )

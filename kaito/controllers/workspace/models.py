"""Models: which model a Workspace names that the catalogue does not have, and what of it is on record."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ValidationError

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import PresetSpec
from kaito.catalog import CurrentCatalog, ModelPreset, UnknownModel
from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.workspace.lookups import LookupFailed, Lookups
from kaito.hub import MODEL_ID, Hub, HubToken, NoSuchModel
from kaito.hub.preset import LARGEST_GIB
from kaito.kube.core_v1 import Secret
from kaito.kube.object_key import ObjectKey

log = logging.getLogger(__name__)

TOKEN_KEY = "HF_TOKEN"
SECRET_DELAY = timedelta(seconds=10)
"""Secrets are not watched: one is read when it is needed, and no other."""
LONGEST_RECORD = 8192
_TOKEN = re.compile("[!-~]+")


class ModelNotResolved(Exception):
    """What a Workspace names cannot be told to be a model, for now.

    Attributes:
        look_again: when to try again.
    """

    def __init__(self, message: str, look_again: timedelta) -> None:
        super().__init__(f"inference.preset.name: {message}")
        self.look_again = look_again


class Models:
    """Finds models that the catalogue does not have.

    What the hub said is put on record, as an annotation of the Workspace, before anything is paid for, and counts from
    then on: a hub that is down, or says something else today, disturbs nothing that runs.

    A catalogue that learns the model later counts for those Workspaces that have no nodes yet: its figures were looked
    at by somebody. One that has nodes keeps to its record, since other figures could mean another number of nodes, or
    another runtime, for a model that runs well. Whoever wants them takes the annotation off.

    Args:
        client: reads (Secrets live) and writes.
        current: the catalogue.
        hub: who is asked.
        now: wall clock.
    """

    def __init__(self, client: Client, current: CurrentCatalog, hub: Hub, now: Callable[[], datetime]) -> None:
        self._client = client
        self._current = current
        self._lookups = Lookups(hub, now)

    async def of(self, workspace: Workspace) -> ModelPreset | None:
        """Returns the model that a Workspace names; None: it is for the catalogue to say, and to refuse.

        Raises:
            ModelNotResolved: nobody can tell for now.
            LookupBusy: others wait for the hub; come back in a second.
        """
        preset = _preset(workspace)
        if preset is None or not MODEL_ID.fullmatch(preset.name):
            return None
        unknown = self._unknown(preset.name)
        record = recorded(workspace)
        if record is not None and (unknown is not None or _has_nodes(workspace)):
            return record
        if unknown is None:
            return None
        token = await self._token(workspace, preset)
        try:
            found = await self._lookups.find(preset.name, token)
        except LookupFailed as failed:
            near = ""
            if isinstance(failed.error, NoSuchModel) and unknown.did_you_mean:
                near = f"; did you mean {json.dumps(unknown.did_you_mean)}?"
            raise ModelNotResolved(f"{failed}{near}", failed.look_again) from failed
        log.info("model resolved", extra={"workspace": str(workspace.key), "model": preset.name})
        return found

    async def record(self, workspace: Workspace, model: ModelPreset | None) -> Workspace:
        """Puts on record what a Workspace's model is (None: the catalogue has it), unless it is there already.

        Raises:
            Conflict: somebody wrote meanwhile; reconcile again.
        """
        found = workspace.metadata.annotations.get(keys.RESOLVED_MODEL_ANNOTATION)
        if recorded(workspace) == model and (model is not None or found is None):
            return workspace
        metadata = {
            "resourceVersion": workspace.metadata.resource_version,
            "annotations": {keys.RESOLVED_MODEL_ANNOTATION: None if model is None else text_of(model)},
        }
        return await self._client.patch(Workspace, workspace.key, {"metadata": metadata})

    def _unknown(self, name: str) -> UnknownModel | None:
        try:
            self._current.catalog.model(name)
        except UnknownModel as error:
            return error
        return None

    async def _token(self, workspace: Workspace, preset: PresetSpec) -> HubToken | None:
        """The Workspace's token.

        Raises:
            ModelNotResolved: it names a Secret that has none.
        """
        name = preset.preset_options.model_access_secret if preset.preset_options is not None else None
        if not name:
            return None
        namespace = workspace.metadata.namespace or "default"
        remedy = (
            f"make it with: kubectl create secret generic {name} --namespace {namespace} "
            f"--from-literal={TOKEN_KEY}=… (inference.preset.presetOptions.modelAccessSecret)"
        )
        try:
            secret = await self._client.get(Secret, ObjectKey(name, namespace))
        except NotFound as error:
            raise ModelNotResolved(f"there is no Secret {name} in {namespace}: {remedy}", SECRET_DELAY) from error
        try:
            value = base64.b64decode(secret.data.get(TOKEN_KEY, ""), validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            value = ""
        if not _TOKEN.fullmatch(value):
            cause = f"Secret {name} has no token under the key {TOKEN_KEY}"
            raise ModelNotResolved(f"{cause}: {remedy}", SECRET_DELAY) from None
        return HubToken(value, f"Secret {name}")


def recorded(workspace: Workspace) -> ModelPreset | None:
    """What is on record of a Workspace's model; None: nothing that can be used."""
    text, preset = workspace.metadata.annotations.get(keys.RESOLVED_MODEL_ANNOTATION, ""), _preset(workspace)
    if preset is None or not 0 < len(text) <= LONGEST_RECORD:
        return None
    try:
        found = ModelPreset.model_validate_json(text)
    except ValidationError:
        return None
    # Whoever can write annotations could otherwise have nodes bought by the thousand.
    sound = found.weights_gib <= LARGEST_GIB and found.huggingface_id == preset.name
    return found if sound else None


def text_of(model: ModelPreset) -> str:
    """A model as it is put on record."""
    return model.model_dump_json(exclude_defaults=True)


def _preset(workspace: Workspace) -> PresetSpec | None:
    return workspace.inference.preset if workspace.inference is not None else None


def _has_nodes(workspace: Workspace) -> bool:
    return bool(workspace.status.node_claims or workspace.status.worker_nodes)

"""Which model the quickstart serves: one that the hub has, one in a folder, or a tiny one written on the spot."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml

from kaito.catalog import Catalog, ModelPreset
from kaito.cli.quickstart.errors import QuickstartError
from kaito.hub import Hub, HubError, HubToken, HubUnavailable
from kaito.hub.advice import Advice
from kaito.hub.figures import HubFile
from kaito.hub.model_id import MODEL_ID
from kaito.hub.preset import preset_of
from kaito.sizing import fits

PRESET = "phi-3-mini-4k-instruct"
ADAPTER_PRESET = "phi-3-mini-128k-instruct"
INSTANCE_TYPE = "Standard_NC6s_v3"
"""Of the manifests."""
REAL_PHI_3 = "microsoft/Phi-3-mini-4k-instruct"
SMALL_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""270 MB of weights: any laptop runs it."""
TINY_IDS = {PRESET: "kaito-project/tiny-phi-3-4k", ADAPTER_PRESET: "kaito-project/tiny-phi-3-128k"}
HUB_TIMEOUT_S = 5.0
"""How long the hub may take where nobody asked for a model of it."""
HERE = Advice(access="export HF_TOKEN=hf_… of an account that has access to it", way_out="")
"""What the hub's errors advise; the way out differs with what was asked for."""
_OVERLAY = "quickstart"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What is served under the names of the manifests.

    Attributes:
        model_id: for people.
        presets: entries of the catalogue by the name of the preset that they stand in for.
        preset: which one the Workspace names.
        instance_type: which one the Workspace asks for.
        notes: what people should know of it.
        folders: where models lie on this machine, by id; the others come from the hub.
        is_tiny: whether it has to be written first, and answers gibberish.
        readiness_timeout_s: how long its pod may take to its first answer.
    """

    model_id: str
    presets: Mapping[str, ModelPreset]
    preset: str = PRESET
    instance_type: str = INSTANCE_TYPE
    notes: tuple[str, ...] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)
    is_tiny: bool = False
    readiness_timeout_s: float = 120.0

    def catalog(self) -> Catalog:
        """The built-in catalogue, with this model in place of those of the manifests.

        Raises:
            CatalogError: it cannot be laid over it.
        """
        entries = {name: preset.model_dump(mode="json", exclude={"name"}) for name, preset in self.presets.items()}
        return Catalog.load(None, [(_OVERLAY, yaml.safe_dump({"models": entries}))]) if entries else Catalog.load()


async def choose(wanted: str | None, scratch: Path, hub: Hub | None = None, token: str | None = None) -> ModelChoice:
    """Decides what is served.

    Args:
        wanted: a Hugging Face id, or a folder with a model; None: a small model, or without a hub the tiny one.
        scratch: where the tiny model will be written.
        hub: default: as the environment tells.
        token: that the pods will have; default: ``HF_TOKEN`` of the environment.

    Raises:
        QuickstartError: the model that is wanted cannot be had.
    """
    hub = hub or Hub.from_environment(advice=HERE)
    token = os.environ.get("HF_TOKEN", "").strip() if token is None else token
    held = HubToken(token, "HF_TOKEN") if token else None
    if wanted is None:
        return await _small(hub, scratch)
    # An empty one, as of a variable that is not set, is no folder, although Path takes it for the one here.
    if wanted and (found := await asyncio.to_thread(_from_folder, Path(wanted))) is not None:
        return found
    if not MODEL_ID.fullmatch(wanted):
        raise QuickstartError(
            f"--model {wanted or repr(wanted)}: neither a folder nor a Hugging Face id; give ORGANISATION/MODEL, such "
            f"as {SMALL_MODEL}"
        )
    return _from_hub(wanted, await _resolve(wanted, hub, held))


def tiny(scratch: Path, *notes: str) -> ModelChoice:
    """The tiny model, under both presets of the walk-through.

    Args:
        scratch: where `write_tiny` will put it.
        notes: why it is this one.
    """
    said = "its weights are random, so that its answers are gibberish; all else is as with a real model"
    folder = scratch / "model"
    return ModelChoice(
        model_id=TINY_IDS[PRESET],
        presets={name: _tiny_preset(name, model_id) for name, model_id in TINY_IDS.items()},
        notes=(*notes, f"a tiny model is written on the spot: {said}"),
        folders=dict.fromkeys(TINY_IDS.values(), folder),
        is_tiny=True,
    )


async def write_tiny(scratch: Path) -> None:
    """Writes the tiny model and its adapters, in a process of its own: what it imports takes seconds and memory.

    Raises:
        QuickstartError: it ended with an error.
    """
    script = "import sys, pathlib, kaito.inference.testing as t; t.tiny_model(pathlib.Path(sys.argv[1]))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(scratch)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(scratch / "torch")},  # else torch leaves a folder behind
    )
    try:
        _, stderr = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        raise
    if process.returncode:
        last = stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise QuickstartError(f"the tiny model was not written: {''.join(last) or f'exit code {process.returncode}'}")


async def _small(hub: Hub, scratch: Path) -> ModelChoice:
    try:
        async with asyncio.timeout(HUB_TIMEOUT_S):
            preset = await hub.resolve(SMALL_MODEL)
    except TimeoutError:
        return tiny(scratch, f"{hub.endpoint} did not answer within {HUB_TIMEOUT_S:g} s")
    except HubUnavailable:
        return tiny(scratch, f"the hub, {hub.endpoint}, cannot be reached from here")
    except HubError as error:
        return tiny(scratch, str(error))
    notes = (
        f"the preset is served by {SMALL_MODEL} here, which runs on any laptop",
        f"the real one, with memory for its 7 GiB: kaito quickstart --model {REAL_PHI_3}",
    )
    return _choice(preset, notes)


async def _resolve(wanted: str, hub: Hub, token: HubToken | None) -> ModelPreset:
    try:
        return await hub.resolve(wanted, token)
    except HubUnavailable as error:
        raise QuickstartError(
            f"--model {wanted}: {error}; check the network (HF_ENDPOINT, "
            f"HTTPS_PROXY), give a folder with a model, or leave --model out: then a tiny model answers"
        ) from error
    except HubError as error:
        raise QuickstartError(f"--model {error}") from error


def _from_hub(wanted: str, preset: ModelPreset) -> ModelChoice:
    known = next((model for model in Catalog.load().models.values() if model.huggingface_id == wanted), None)
    if known is None:
        return _choice(preset, (f"the preset is served by {wanted} here, {preset.weights_gib:g} GiB of weights",))
    _check_runtime(wanted, known)
    instance_type, notes = _instance_type(known)
    timeout_s = known.readiness_timeout_s
    return ModelChoice(wanted, {}, known.name, instance_type, notes, readiness_timeout_s=timeout_s)


def _from_folder(given: Path) -> ModelChoice | None:
    if not given.is_dir():
        return None
    folder = given.resolve()
    # Only the last part can be chosen here, and only so that an id comes of it.
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in folder.name).strip("-")
    model_id = f"local/{name[:90] or 'model'}"
    files = [HubFile(path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file()]
    try:
        config = json.loads((folder / "config.json").read_text())
        preset = preset_of(model_id, files, config if isinstance(config, dict) else {}, str(folder))
    except (OSError, ValueError) as error:
        raise QuickstartError(f"--model {folder}: its config.json cannot be read: {error}") from error
    except HubError as error:
        raise QuickstartError(f"--model {folder}: {error}") from error
    return _choice(preset, (f"the preset is served by the model in {folder}",), {model_id: folder})


def _choice(preset: ModelPreset, notes: tuple[str, ...], folders: Mapping[str, Path] | None = None) -> ModelChoice:
    _check_runtime(preset.huggingface_id, preset)
    instance_type, more = _instance_type(preset)
    return ModelChoice(
        preset.huggingface_id,
        {PRESET: preset},
        instance_type=instance_type,
        notes=(*notes, *more),
        folders=folders or {},
        readiness_timeout_s=preset.readiness_timeout_s,
    )


def _instance_type(preset: ModelPreset) -> tuple[str, tuple[str, ...]]:
    """The manifest's if the operator lets the model have it, else the smallest that does; and what to say of it."""
    catalog = Catalog.load()
    of_the_manifest = catalog.sku(INSTANCE_TYPE)
    fitting = partial(fits, preset, runtime="transformers")
    if fitting(of_the_manifest):
        return INSTANCE_TYPE, ()
    found = next(filter(fitting, catalog.skus_of(of_the_manifest.cloud)), None)
    if found is None:
        raise QuickstartError(
            f"--model {preset.huggingface_id}: its {preset.weights_gib:g} GiB of weights fit no instance type of one "
            f"node; choose a smaller model, such as {SMALL_MODEL}"
        )
    why = "has no bfloat16" if preset.float16 is False else "is too small for it"
    return found.name, (
        f"the Workspace asks for {found.name}, since the manifest's {INSTANCE_TYPE} {why}; "
        f"either is only a name here: the node is this machine",
    )


def _check_runtime(model: str, preset: ModelPreset) -> None:
    if "transformers" not in preset.runtimes:
        raise QuickstartError(
            f"--model {model}: only vLLM runs it (it is quantised, or brings code of its own), which needs a GPU node "
            f"of a cluster; choose one that transformers runs, such as {SMALL_MODEL}"
        )


def _tiny_preset(name: str, model_id: str) -> ModelPreset:
    return ModelPreset(
        name=name,
        huggingface_id=model_id,
        weights_gib=0.01,
        context_tokens=2048,
        attention="GQA",
        kv_bytes_per_token=256,
        disk_gib=1,
        runtimes=("transformers",),
        license="Apache-2.0",
        readiness_timeout_minutes=30,
        source=("kaito.inference.testing.tiny_model",),
    )

"""`kaito chat` and `kaito explain` as users run them, with a model that a process node of `kaito devcluster up` serves.

One scene for all, in the order in which the tests stand: the last ones take it down.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.app import app
from kaito.client import Client, load_config
from kaito.devcluster.binaries import ensure_binaries
from kaito.devcluster.process_nodes.images import built_in
from kaito.kube import Node, ObjectKey
from kaito.kube.conditions import is_true
from kaito.testing import eventually
from tests.operating.cluster import workspace
from tests.operating.manager_process import ManagerProcess

pytestmark = pytest.mark.timeout(240)
REPOSITORY = Path(__file__).parents[2]
TINY = "kaito-project/tiny-phi-3-4k"
CATALOG: dict[str, Any] = {
    "huggingface_id": TINY,
    "weights_gib": 0.01,
    "context_tokens": 2048,
    "kv_bytes_per_token": 256,
    "disk_gib": 1,
    "runtimes": ["transformers"],
}
PRESET = {"name": "phi-3-mini-4k-instruct"}
CANNOT_PULL = {"preset": PRESET, "adapters": [{"source": {"name": "one", "image": "127.0.0.1:9/none/adapter:1"}}]}
NOWHERE = {"name": "one", "volumeSource": {"configMap": {"name": "nowhere"}}}
CANNOT_MOUNT = {"preset": PRESET, "adapters": [{"source": NOWHERE}]}
WRITE_MODEL = "import sys, pathlib, kaito.inference.testing as t; t.tiny_model(pathlib.Path(sys.argv[1]))"
READY_TIMEOUT_S = 90.0


@dataclass
class Scene:
    """A cluster that a user has started on this machine, in a folder of its own."""

    folder: Path
    up: asyncio.subprocess.Process
    environment: dict[str, str]

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "dc" / "kubeconfig"

    async def sh(self, command: str) -> str:
        """Runs a shell's command, where `kubectl` is the cluster's."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-ec", command),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{command}\n{said.decode()}"
        return said.decode()

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """A command as a process, whose output is read as it comes."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kaito", *arguments, "--kubeconfig", str(self.kubeconfig)),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def kaito(self, *arguments: str, kubeconfig: Path | None = None, text: str = "") -> tuple[int, str, str]:
        """Exit code, output and errors of a command; in a thread, since a process of its own takes seconds to start."""
        words = [*arguments, "--kubeconfig", str(kubeconfig or self.kubeconfig)]
        result = await asyncio.to_thread(CliRunner().invoke, app, words, input=text)
        return result.exit_code, result.stdout, result.stderr

    def processes(self) -> list[tuple[int, str]]:
        """Processes that name the folder, in their command line or as where they work."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                place = str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(self.folder) in words or str(self.folder) in place:
                found.append((int(entry.name), words))
        return found


def documented() -> tuple[str, list[str], str]:
    """The example of the guide: what makes the table of images, how the cluster is started, what brings the node."""
    text = (REPOSITORY / "docs" / "process-nodes.md").read_text()
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    table, up, node = re.split(r"^(kaito .*)\n", block[1], flags=re.MULTILINE)
    return table, shlex.split(up)[1:], node


def add_model(table: Path, model: Path, env: dict[str, str]) -> None:
    """Puts the inference image into a table of images, with the tiny model in the place of one of the hub."""
    image = built_in()
    entry = {
        "pattern": image.pattern,
        "programs": dict(image.programs),
        "env": {**image.env, **env},
        "arguments": {TINY: str(model)},
    }
    images = yaml.safe_load(table.read_text())["images"]
    table.write_text(yaml.safe_dump({"images": [*images, entry]}))


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """The guide's example, with kwok beside it, and the model whose weights the catalogue's are replaced by."""
    folder = tmp_path_factory.mktemp("scene")
    table, up, node = documented()
    kubectl = await asyncio.to_thread(lambda: ensure_binaries()["kubectl"].path)
    quiet = {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(REPOSITORY), "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    environment = {**os.environ, **quiet, "PATH": f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"}
    environment["KUBECONFIG"] = str(folder / "dc" / "kubeconfig")
    await asyncio.to_thread(subprocess.run, ["bash", "-ec", table], cwd=folder, check=True)
    add_model(folder / "images.yaml", folder / "model", quiet)
    model = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITE_MODEL, str(folder), env=environment)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaito", *up, "--kwok"),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    made = Scene(folder, process, environment)
    try:
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["ready"] is True
        await made.sh(node)
        assert await model.wait() == 0
        yield made
    finally:
        for each in (model, process):
            if each.returncode is None:
                each.terminate()
        await model.wait()
        await process.communicate()


@pytest.fixture(scope="module")
async def served(scene: Scene) -> AsyncIterator[Client]:
    """An operator, a Workspace that is ready, and two that never will be."""
    crds = REPOSITORY / "deploy" / "crds"
    await scene.sh(f"kubectl apply --server-side -f {crds} && kubectl wait crd --all --for=condition=Established")
    catalog = scene.folder / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"models": {"phi-3-mini-4k-instruct": CATALOG}}))
    flags = ("--cloud", "process", "--runtime", "transformers", "--catalog", str(catalog))
    manager = ManagerProcess(scene.kubeconfig, scene.folder / "manager.log", *flags)
    config = await asyncio.to_thread(load_config, scene.kubeconfig)
    async with manager, Client.from_config(config, name="tests") as client:
        broken = [workspace("pulls") | {"inference": CANNOT_PULL}, workspace("mounts") | {"inference": CANNOT_MOUNT}]
        for each in (workspace("phi"), *broken):
            (scene.folder / "workspace.yaml").write_text(yaml.safe_dump(each))
            await scene.sh("kubectl apply -f workspace.yaml")
        yield client


async def test_the_example_of_the_guide_brings_a_node_to_life(scene: Scene) -> None:
    async with Client.from_config(await asyncio.to_thread(load_config, scene.kubeconfig), name="tests") as client:
        assert await eventually(lambda: is_ready(client), timeout_s=30)


async def is_ready(client: Client) -> bool:
    return is_true((await client.get(Node, ObjectKey("here"))).status.conditions, "Ready")


async def test_a_workspace_that_is_waited_for_answers_turn_after_turn_through_the_api_server(
    scene: Scene, served: Client
) -> None:
    code, _, errors = await scene.kaito("chat", "phi", "-m", "hello")
    assert code == 1
    assert "Workspace default/phi is not ready" in errors
    assert "kaito explain workspace phi -n default" in errors
    text = "hello\n/set max_tokens 3\nand then?\n"
    code, said, errors = await scene.kaito("chat", "phi", "--wait", "--json", "--max-tokens", "4", text=text)
    assert code == 0, errors
    first, second = map(json.loads, said.splitlines())
    assert (first["usage"]["completion_tokens"], second["usage"]["completion_tokens"]) == (4, 3)
    # The second prompt has the first turn in it.
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + 4
    assert (await scene.kaito("explain", "workspace", "phi"))[:1] == (0,)


@pytest.mark.parametrize(
    ("name", "begins", "has"),
    [
        ("pulls", "✗ init container puller-one: ended", "the registry 127.0.0.1:9 cannot be reached"),
        ("mounts", "✗ Pod mounts-", 'does not start: FailedMount: MountVolume.SetUp failed for volume "adapter-one"'),
    ],
    ids=["an adapter that cannot be pulled", "a volume that cannot be mounted"],
)
async def test_the_first_line_is_the_cause_and_the_log_of_a_process_node_is_shown(
    scene: Scene, served: Client, name: str, begins: str, has: str
) -> None:
    async def explained() -> str:
        code, said, errors = await scene.kaito("explain", "workspace", name)
        assert code == 1, said + errors
        return said

    said = await eventually(explained, timeout_s=60, interval_s=1)
    first, advice, *_ = said.splitlines()
    assert first.startswith(begins), said
    assert has in first
    assert advice.startswith("  What to do: ")
    if name == "pulls":
        assert "    python -m kaito.inference.pull: the registry 127.0.0.1:9 cannot be reached" in said


async def test_who_lacks_rights_is_told_the_commands_that_give_them_and_these_do(scene: Scene, served: Client) -> None:
    kubeconfig = await account(scene)
    await scene.sh("kubectl create role sees --verb=get --resource=workspaces.kaito.sh")
    await scene.sh("kubectl create rolebinding sees --role=sees --serviceaccount=default:bob")
    code, _, errors = await scene.kaito("chat", "phi", "-m", "hi", kubeconfig=kubeconfig)
    assert code == 1
    assert "you need the right to get and create services/proxy" in errors
    await give(scene, errors, 2)
    code, _, errors = await scene.kaito("chat", "phi", "-m", "hi", "--max-tokens", "3", kubeconfig=kubeconfig)
    assert (code, errors) == (0, "")

    code, said, errors = await scene.kaito("explain", "workspace", "pulls", kubeconfig=kubeconfig)
    assert errors == ""
    assert "? Deployment ?: you may not look at it: that needs the right to get deployments.apps" in said
    assert code == 3  # as far as bob can tell
    await give(scene, said, 4)
    code, said, errors = await scene.kaito("explain", "workspace", "pulls", kubeconfig=kubeconfig)
    assert (code, errors) == (1, "")
    assert "have not the right" not in said


async def account(scene: Scene) -> Path:
    """A kubeconfig of a ServiceAccount that may do nothing."""
    token = (await scene.sh("kubectl create serviceaccount bob >/dev/null && kubectl create token bob")).strip()
    config = yaml.safe_load(scene.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    file = scene.folder / "bob"
    file.write_text(yaml.safe_dump(config))
    return file


async def give(scene: Scene, said: str, count: int) -> None:
    """What an administrator does who was sent that."""
    commands = [line.strip() for line in said.splitlines() if line.startswith("  kubectl ")]
    assert len(commands) == count, said
    await scene.sh("\n".join(commands))


async def test_an_answer_comes_as_it_is_written_and_a_server_that_is_killed_breaks_it_off(
    scene: Scene, served: Client
) -> None:
    process = await scene.start("chat", "phi", "-m", "hello", "--max-tokens", "2000")
    assert process.stdout is not None
    assert await process.stdout.read(1)
    [pid] = [pid for pid, words in scene.processes() if "-m kaito.inference --model" in words and "/model " in words]
    os.kill(pid, signal.SIGKILL)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().startswith("kaito: the answer broke off")

    async def cause() -> str:
        said: dict[str, Any] = json.loads((await scene.kaito("explain", "workspace", "phi", "-o", "json"))[1])
        assert said["state"] == "fails", said
        return str(said["cause"]["says"])

    assert (await eventually(cause, timeout_s=30)).startswith("ended with exit code 137 (SIGKILL)")


async def test_nothing_outlives_a_cluster_that_is_killed(scene: Scene, served: Client) -> None:
    assert any("kaito.inference" in words for _, words in scene.processes())
    scene.up.kill()
    await scene.up.wait()

    def left() -> bool:
        # The operator is the user's own.
        found = [words for _, words in scene.processes() if "kaito manager" not in words]
        assert not found, found
        return True

    await eventually(left, timeout_s=20)
    assert not (scene.folder / "dc" / "data").exists()

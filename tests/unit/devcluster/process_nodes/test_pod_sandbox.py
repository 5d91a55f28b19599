"""kaito.devcluster.process_nodes.pod_sandbox: what a container's process finds: its volumes, variables, command."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaito.devcluster.process_nodes import atomic_files, volumes
from kaito.devcluster.process_nodes.atomic_files import FileContent
from kaito.devcluster.process_nodes.images import LocalImage
from kaito.devcluster.process_nodes.last_words import tail
from kaito.devcluster.process_nodes.pod_sandbox import PodSandbox, remove_orphans
from kaito.devcluster.process_nodes.sandbox import Execution, NotStarted
from kaito.kube.core_v1 import Container
from kaito.testing.fake_api import FakeApi

Make = Callable[..., PodSandbox]
CONFIG = "CreateContainerConfigError"


def variable(**source: Any) -> dict[str, Any]:
    return {"env": [{"name": "A", "valueFrom": source}]}


def container(**fields: Any) -> Container:
    return Container.model_validate({"name": "main", "image": "tools:1", **fields})


def config(api: FakeApi, name: str, data: dict[str, str]) -> None:
    api.call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": name}, "data": data})


def secret(api: FakeApi, name: str, data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    api.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": name}, "data": encoded})


def output(execution: Execution) -> str:
    return subprocess.run(
        execution.argv, env=dict(execution.env), cwd=execution.folder, capture_output=True, text=True, check=True
    ).stdout


async def test_two_containers_share_a_volume_each_by_its_own_path(sandbox: Make) -> None:
    pod = sandbox({"volumes": [{"name": "shared", "emptyDir": {}}]})
    await pod.prepare()
    writer = container(
        command=["sh", "-c", "echo hello > /out/adapters/one/file"],
        volumeMounts=[{"name": "shared", "mountPath": "/out/adapters/one", "subPath": "one"}],
    )
    reader = container(
        name="reader",
        command=["sh", "-c", "ls $DIR/; cat $DIR/one/file"],
        env=[{"name": "DIR", "value": "/mnt/adapter"}],
        volumeMounts=[{"name": "shared", "mountPath": "/mnt/adapter"}],
    )
    output(await pod.execution(writer, 0))
    assert output(await pod.execution(reader, 0)) == "one\nhello\n"


async def test_config_maps_and_secrets_are_files_that_follow_their_source(
    sandbox: Make, api: FakeApi, tmp_path: Path
) -> None:
    config(api, "settings", {"a.yaml": "one", "b.yaml": "two"})
    secret(api, "keys", {"token": "open sesame"})
    items = [{"key": "token", "path": "deep/token", "mode": 0o400}]
    pod = sandbox(
        {
            "volumes": [
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "keys", "secret": {"secretName": "keys", "items": items}},
                {"name": "none", "secret": {"secretName": "none", "optional": True}},
            ]
        }
    )
    await pod.prepare()
    mounts = [{"name": name, "mountPath": f"/etc/{name}"} for name in ("settings", "keys", "none")]
    roots = (await pod.execution(container(command=["true"], volumeMounts=mounts), 0)).roots
    assert {path.name: path.read_text() for path in roots["/etc/settings"].glob("*.yaml")} == {
        "a.yaml": "one",
        "b.yaml": "two",
    }
    token = roots["/etc/keys"] / "deep" / "token"
    assert (token.read_text(), token.stat().st_mode & 0o777) == ("open sesame", 0o400)
    assert list(roots["/etc/none"].glob("[!.]*")) == []
    api.call(
        "PATCH",
        "/api/v1/namespaces/default/configmaps/settings",
        {"data": {"a.yaml": "changed", "b.yaml": None}},
        content_type="application/merge-patch+json",
    )
    await pod.prepare()
    assert [(path.name, path.read_text()) for path in roots["/etc/settings"].glob("*.yaml")] == [("a.yaml", "changed")]
    assert (tmp_path / "agent" / "pods").stat().st_mode & 0o077 == 0


async def test_the_downward_api_shows_labels_as_they_are_now(sandbox: Make) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "requests.cpu", "divisor": "1m"}},
    ]
    main = {"name": "main", "image": "tools:1", "resources": {"requests": {"cpu": "1500m"}}}
    spec = {
        "containers": [main],
        "volumes": [{"name": "info", "projected": {"sources": [{"downwardAPI": {"items": items}}]}}],
    }
    pod = sandbox(spec, labels={"tier": "web"})
    await pod.prepare()
    mounted = container(command=["true"], volumeMounts=[{"name": "info", "mountPath": "/info"}])
    info = (await pod.execution(mounted, 0)).roots["/info"]
    assert ((info / "labels").read_text(), (info / "cpu").read_text()) == ('tier="web"', "1500")
    relabelled = sandbox(spec, labels={"tier": "db", "app": "x"})._pod
    await pod.refresh(relabelled)
    assert (info / "labels").read_text() == 'app="x"\ntier="db"'


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "settings", "items": [{"key": "b", "path": "b"}]}}, "non-existent config key: b"),
        ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "../a"}]}}, "without '..'"),
        ({"hostPath": {"path": "/nowhere/at/all", "type": "Directory"}}, "/nowhere/at/all is no Directory"),
        ({"persistentVolumeClaim": {"claimName": "data"}}, "no volumes of the kind persistentVolumeClaim"),
        ({"nfs": {"server": "a", "path": "/"}}, "no volumes of the kind nfs"),
    ],
)
async def test_a_volume_that_cannot_be_made_is_named(
    sandbox: Make, api: FakeApi, source: dict[str, Any], said: str
) -> None:
    config(api, "settings", {"a": "1"})
    with pytest.raises(NotStarted) as refused:
        await sandbox({"volumes": [{"name": "data", **source}]}).prepare()
    assert refused.value.reason == "FailedMount"
    assert refused.value.message.startswith('MountVolume.SetUp failed for volume "data" : ')
    assert said in refused.value.message


@pytest.mark.parametrize("sub_path", ["../../..", "/etc", "out", "out/made"])
async def test_a_sub_path_leads_not_out_of_its_volume(sandbox: Make, tmp_path: Path, sub_path: str) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "out").symlink_to(tmp_path)
    pod = sandbox({"volumes": [{"name": "host", "hostPath": {"path": str(host)}}]})
    await pod.prepare()
    mount = {"name": "host", "mountPath": "/data", "subPath": sub_path}
    with pytest.raises(NotStarted, match="CreateContainerConfigError: failed to prepare subPath"):
        await pod.execution(container(command=["true"], volumeMounts=[mount]), 0)
    assert not (tmp_path / "made").exists()


async def test_variables_come_from_everywhere_and_later_ones_win(sandbox: Make, api: FakeApi) -> None:
    config(api, "settings", {"COLOUR": "red", "SIZE": "1"})
    secret(api, "keys", {"token": "open sesame"})
    limits = {"limits": {"cpu": "2500m", "memory": "1Gi"}}
    image = LocalImage("*", env={"HOST": "$(LOCAL_IP)", "NAME": "$(POD_IP)", "THREADS": "$(CPU_LIMIT)", "SIZE": "0"})
    pod = sandbox({"nodeName": "node-1"}, image=image, labels={"tier": "web"})
    references: dict[str, dict[str, Any]] = {
        "TOKEN": {"secretKeyRef": {"name": "keys", "key": "token"}},
        "NONE": {"secretKeyRef": {"name": "keys", "key": "none", "optional": True}},
        "TIER": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}},
        "NODE": {"fieldRef": {"fieldPath": "spec.nodeName"}},
        "MEMORY": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
    }
    execution = await pod.execution(
        container(
            command=["echo", "$(GREETING)", "$$(COLOUR)", "$(HOST)"],
            envFrom=[{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "keys"}}],
            env=[
                {"name": "COLOUR", "value": "blue"},
                {"name": "GREETING", "value": "$(COLOUR)-$(S_token)-$(KUBERNETES_SERVICE_PORT)"},
                *({"name": name, "valueFrom": source} for name, source in references.items()),
            ],
            resources=limits,
        ),
        0,
    )
    wanted = {
        "COLOUR": "blue",
        "SIZE": "1",
        "GREETING": "blue-open sesame-6443",
        "TOKEN": "open sesame",
        "TIER": "web",
        "NODE": "node-1",
        "MEMORY": "1024",
        "HOST": "127.244.0.5",
        "NAME": "10.244.0.5",
        "THREADS": "2",
        "HOSTNAME": "web-0",
    }
    assert {name: execution.env.get(name) for name in wanted} == wanted
    assert "NONE" not in execution.env
    # As in Kubernetes, what only the image sets is not known to $(NAME).
    assert output(execution) == "blue-open sesame-6443 $(COLOUR) $(HOST)\n"


async def test_nothing_of_the_agents_own_variables_is_handed_on(sandbox: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SECRET", "x")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    execution = await sandbox({}).execution(container(command=["true"]), 0)
    assert "AGENT_SECRET" not in execution.env
    assert execution.env["https_proxy"] == "http://proxy:3128"


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        (variable(secretKeyRef={"name": "none", "key": "a"}), CONFIG, 'secret "none" not found'),
        (variable(configMapKeyRef={"name": "settings", "key": "b"}), CONFIG, "key b in ConfigMap default/settings"),
        (variable(fieldRef={"fieldPath": "spec.none"}), CONFIG, "variable A: fieldPath 'spec.none' is not supported"),
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, CONFIG, 'configmap "none" not found'),
        ({"command": ["no-such-program"]}, "CreateContainerError", '"no-such-program": executable file not found'),
        ({"command": []}, "CreateContainerError", "no command specified"),
        ({"image": "NGINX"}, "InvalidImageName", "not an image reference"),
    ],
)
async def test_a_container_that_cannot_be_started_says_why_as_a_kubelet_does(
    sandbox: Make, api: FakeApi, fields: dict[str, Any], reason: str, said: str
) -> None:
    config(api, "settings", {"a": "1"})
    with pytest.raises(NotStarted) as refused:
        await sandbox({}).execution(container(**{"command": ["true"], **fields}), 0)
    assert refused.value.reason == reason
    assert said in refused.value.message


async def test_a_table_names_programs_and_replaces_arguments(sandbox: Make, tmp_path: Path) -> None:
    model = tmp_path / "models"  # below a folder that is also a mount of the container
    image = LocalImage("*", ("say", "hi"), {"say": "/bin/echo"}, arguments={"org/model": str(model)})
    pod = sandbox({"volumes": [{"name": "scratch", "emptyDir": {}}]}, image=image)
    await pod.prepare()
    mounts = [{"name": "scratch", "mountPath": str(tmp_path)}]
    assert output(await pod.execution(container(args=["org/model"], volumeMounts=mounts), 0)) == f"hi {model}\n"
    # Also for shells, and for what probes execute.
    assert output(await pod.execution(container(command=["sh", "-c", "say 'a  b'"]), 0)) == "a  b\n"
    probe = pod.command(container(volumeMounts=[{"name": "scratch", "mountPath": "/s"}]), ["say", "/s/x"])
    assert probe[0] == "/bin/echo"
    assert probe[1].endswith("root/s/x")


async def test_removal_takes_the_folder_and_memory_and_leaves_logs_and_the_host(sandbox: Make, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    volumes = [{"name": "shm", "emptyDir": {"medium": "Memory"}}, {"name": "host", "hostPath": {"path": str(host)}}]
    pod = sandbox({"volumes": volumes})
    await pod.prepare()
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "host", "mountPath": "/host"}]
    in_memory = "echo x > /dev/shm/x; mkdir -p /dev/shm/d; chmod 500 /dev/shm/d"
    script = f"{in_memory}; echo y > /host/y; echo z > /dev/termination-log"
    execution = await pod.execution(container(command=["sh", "-c", script], volumeMounts=mounts), 2)
    output(execution)
    assert execution.termination_log.read_text() == "z\n"
    assert execution.log.relative_to(tmp_path) == Path("agent/logs/default_web-0_5a0ad0a2/main/2.log")
    memory = execution.roots["/dev/shm"].resolve()
    await pod.remove()
    assert not memory.exists()
    assert list((tmp_path / "agent" / "pods").iterdir()) == []
    assert execution.log.parent.is_dir()
    assert (host / "y").read_text() == "y\n"
    await pod.remove()


async def test_the_last_words_of_one_run_are_neither_lost_to_a_probe_nor_left_to_the_next_run(sandbox: Make) -> None:
    pod = sandbox({})
    first = await pod.execution(container(command=["true"]), 0)
    first.log.touch()  # as it is started
    first.termination_log.write_text("out of memory")
    await pod.execution(container(command=["true"]), 0)
    assert first.termination_log.read_text() == "out of memory"
    await pod.execution(container(command=["true"]), 1)
    assert first.termination_log.read_text() == ""


async def test_folders_of_pods_that_are_no_more_are_found(sandbox: Make, tmp_path: Path) -> None:
    living = {"5a0ad0a2"}

    async def uids() -> set[str]:
        return living

    volumes = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    await sandbox({"volumes": volumes}).prepare()
    memory = (tmp_path / "agent/pods/5a0ad0a2/volumes/shm").resolve()
    assert await remove_orphans(tmp_path / "agent", uids) == []
    assert memory.is_dir()
    living.clear()
    assert await remove_orphans(tmp_path / "agent", uids) == ["5a0ad0a2"]
    assert not memory.exists()
    assert await remove_orphans(tmp_path / "agent", uids) == []


def test_memory_of_former_pods_that_is_a_link_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "shared").mkdir()
    (own / "shared").chmod(0o755)
    (tmp_path / "memory").symlink_to(own)
    volumes.remove(tmp_path / "memory")
    assert (own / "shared").stat().st_mode & 0o777 == 0o755


def test_what_a_pod_made_beside_the_files_of_a_config_map_stays_when_they_change(tmp_path: Path) -> None:
    atomic_files.write(tmp_path, {"a.py": FileContent(b"one", 0o644), "b.py": FileContent(b"one", 0o644)})
    (tmp_path / "__pycache__").mkdir()
    assert atomic_files.write(tmp_path, {"a.py": FileContent(b"two", 0o644)})
    assert sorted(each.name for each in tmp_path.iterdir() if each.name[:2] != "..") == ["__pycache__", "a.py"]
    assert len([each for each in tmp_path.glob("..*") if not each.is_symlink()]) == 1, "what was before is gone"


def test_last_words_in_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert tail(tmp_path / "pipe", 100) == ""

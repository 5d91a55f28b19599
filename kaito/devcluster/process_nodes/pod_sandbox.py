"""PodSandbox: a pod's folder on this machine: its volumes, its containers' roots, what is executed for each."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kaito.client import Client, KubeError
from kaito.devcluster.process_nodes import volumes
from kaito.devcluster.process_nodes.addresses import local
from kaito.devcluster.process_nodes.images import ImageTable, LocalImage
from kaito.devcluster.process_nodes.mounts import Mounts
from kaito.devcluster.process_nodes.sandbox import Execution, NotStarted
from kaito.devcluster.process_nodes.service_links import ServiceLink, link_variables
from kaito.devcluster.process_nodes.variables import cpu_limit, expand, variables
from kaito.kube.core_v1 import Container, Pod

TERMINATION_LOG: Final = "/dev/termination-log"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
# Of the agent's own variables a program gets these: the way to the outer world is the machine's, not an image's.
_HANDED_ON: Final = (
    "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip

FindServices = Callable[[str], Awaitable[Sequence[ServiceLink]]]
"""Looks up how the Services of a namespace are reached."""


class PodSandbox:
    """One pod's folder, volumes and network name; a `Sandbox`.

    There are no mount namespaces without root: see `Mounts` for what becomes of a container's paths, and `Volumes` for
    what volumes cannot do here. What a container writes besides its mounts stays for its next start.

    Layout, all of it for its owner only: ``DIRECTORY/pods/UID/volumes/NAME``, ``DIRECTORY/pods/UID/containers/NAME``
    with the links to its mounts in ``root``, ``DIRECTORY/logs/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log``.

    Args:
        pod: whose.
        client: where ConfigMaps and Secrets are read, and tokens are got.
        images: what stands for images.
        directory: the agent's.
        address: the pod's, as the cluster knows it.
        api_server: URL of the API server, for pods that talk to it.
        find_services: looks up how the Services of a namespace are reached; None: they are not.
    """

    def __init__(
        self,
        pod: Pod,
        client: Client,
        images: ImageTable,
        directory: Path,
        address: str,
        *,
        api_server: str = "",
        find_services: FindServices | None = None,
    ) -> None:
        self.address = address
        self._pod = pod
        self._client = client
        self._images = images
        self._directory = directory
        self._folder = directory / "pods" / pod.metadata.uid
        self._memory = volumes.memory_folder(directory)
        self._volumes = volumes.Volumes(pod, client, self._folder / "volumes", address, self._memory)
        self._api_server = urlsplit(api_server)
        self._find_services = find_services
        # Of each container that was to be started, its variables: a mount's subPathExpr may have them in it.
        self._known: dict[str, dict[str, str]] = {}

    async def prepare(self) -> None:
        """See `Sandbox.prepare`."""
        _private(self._folder)
        await self._volumes.make()

    async def execution(self, container: Container, restarts: int) -> Execution:
        """See `Sandbox.execution`."""
        image = self._images.resolve(container.image or "")
        cluster = await self._service_variables() | self._cluster_variables()
        known = cluster | await variables(self._client, self._pod, container, self.address, cluster)
        self._known[container.name] = known
        folder, mounts = self._container_folder(container), self._mounts(container)
        mounts.link()
        _write_programs(folder / "bin", image)
        working_folder = _working_folder(container, mounts, folder)
        log, termination_log = self._log(container, restarts), _termination_log(folder)
        if not termination_log.exists() or not log.exists():
            # Not where it runs already, and this is for a command of a probe: its last words are its own.
            termination_log.write_bytes(b"")
        env = self._base(folder) | self._of_image(image, container)
        env |= {name: mounts.rewrite(value) for name, value in known.items()}
        return Execution(
            argv=self._argv(image, container, mounts, env, working_folder),
            env=env,
            folder=working_folder,
            log=log,
            termination_log=termination_log,
            roots=mounts.roots,
        )

    def command(self, container: Container, words: Sequence[str]) -> tuple[str, ...]:
        """What is executed here for a command of an exec probe or of a hook; run it with the container's own variables.

        Raises:
            NotStarted: as for `execution`.
        """
        image, mounts = self._images.resolve(container.image or ""), self._mounts(container)
        first = image.programs.get(words[0]) or mounts.rewrite(words[0])
        return (first, *map(mounts.rewrite, words[1:]))

    async def refresh(self, pod: Pod) -> None:
        """See `Sandbox.refresh`."""
        self._pod = self._volumes.pod = pod
        await self.prepare()

    async def remove(self) -> None:
        """See `Sandbox.remove`."""
        await asyncio.to_thread(volumes.remove, self._folder, self._memory)

    def _container_folder(self, container: Container) -> Path:
        folder = self._folder / "containers" / container.name
        for each in ("tmp", "bin"):
            _private(folder / each)
        return folder

    def _mounts(self, container: Container) -> Mounts:
        folder = self._folder / "containers" / container.name
        targets = {}
        for mount in container.volume_mounts:
            sub_path = mount.sub_path or expand(mount.sub_path_expr or "", self._known.get(container.name, {}))
            try:
                targets[mount.mount_path] = self._volumes.place(mount.name, sub_path)
            except (ValueError, OSError) as error:
                text = f'failed to prepare subPath for volumeMount "{mount.name}" of container "{container.name}"'
                raise NotStarted("CreateContainerConfigError", f"{text}: {error}") from error
        files = {container.termination_message_path or TERMINATION_LOG: _termination_log(folder)}
        return Mounts(folder / "root", targets, files)

    async def _service_variables(self) -> dict[str, str]:
        if self._find_services is None or self._pod.spec.enable_service_links is False:
            return {}
        try:
            return link_variables(await self._find_services(self._pod.metadata.namespace or ""))
        except KubeError as error:
            text = f"services have not yet been read, cannot construct envvars: {error}"
            raise NotStarted("CreateContainerConfigError", text) from error

    def _cluster_variables(self) -> dict[str, str]:
        if not self._api_server.hostname:
            return {}
        port = self._api_server.port or 443
        return {"KUBERNETES_SERVICE_HOST": self._api_server.hostname, "KUBERNETES_SERVICE_PORT": str(port)}

    def _base(self, folder: Path) -> dict[str, str]:
        own = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        return {
            "LANG": "C.UTF-8",
            **own,
            "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', _PATH)}",
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "HOSTNAME": self._pod.spec.hostname or self._pod.metadata.name,
        }

    def _of_image(self, image: LocalImage, container: Container) -> dict[str, str]:
        known = {"LOCAL_IP": local(self.address), "POD_IP": self.address, "CPU_LIMIT": cpu_limit(container)}
        return {name: expand(value, known) for name, value in image.env.items()}

    def _argv(
        self, image: LocalImage, container: Container, mounts: Mounts, env: Mapping[str, str], folder: Path
    ) -> tuple[str, ...]:
        given = [*(container.command or image.entrypoint), *container.args]
        if not given:
            text = f"no command specified: the container has none, and the image {image.pattern} has no entrypoint here"
            raise NotStarted("CreateContainerError", text)
        first, *words = (expand(word, self._known[container.name]) for word in given)
        # What the table has are paths of this machine already.
        rest = (image.arguments[word] if word in image.arguments else mounts.rewrite(word) for word in words)
        return (_executable(first, image, mounts, env, folder), *rest)

    def _log(self, container: Container, restarts: int) -> Path:
        metadata = self._pod.metadata
        pod = f"{metadata.namespace}_{metadata.name}_{metadata.uid}"
        folder = self._directory / "logs" / pod / container.name
        _private(folder)
        return folder / f"{restarts}.log"


async def remove_orphans(directory: Path, living: Callable[[], Awaitable[Collection[str]]]) -> list[str]:
    """Removes the folders of pods that are no more, as after an agent that was killed; their logs stay.

    Args:
        directory: the agent's.
        living: asks for the uids of the pods that there are.

    Returns:
        The uids of those removed.
    """
    found = [*(directory / "pods").glob("*")]
    # Asked after the look, or a pod that came in between would lose its folder.
    uids = await living() if found else ()
    folders = [path for path in found if path.name not in uids]
    for folder in folders:
        await asyncio.to_thread(volumes.remove, folder, volumes.memory_folder(directory))
    return sorted(folder.name for folder in folders)


def _private(folder: Path) -> None:
    # One by one: mkdir gives the mode to the last only.
    for each in (*reversed(folder.parents), folder):
        if not each.is_dir():
            each.mkdir(exist_ok=True, mode=0o700)


def _termination_log(folder: Path) -> Path:
    return folder / "termination-log"


def _write_programs(folder: Path, image: LocalImage) -> None:
    for name, program in image.programs.items():
        if "/" not in name:
            # A script, since a link to a virtual environment's python leaves the environment behind.
            (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(program)} "$@"\n')
            (folder / name).chmod(0o700)


def _working_folder(container: Container, mounts: Mounts, folder: Path) -> Path:
    if not container.working_dir:
        return folder
    path = Path(mounts.rewrite(container.working_dir))
    if path.is_dir():
        return path
    # As a container's runtime makes it, though not at the top of this machine.
    own = folder / "root" / container.working_dir.lstrip("/")
    own.mkdir(parents=True, exist_ok=True)
    return own


def _executable(word: str, image: LocalImage, mounts: Mounts, env: Mapping[str, str], folder: Path) -> str:
    wanted = image.programs.get(word) or mounts.rewrite(word)
    if "/" in wanted:
        wanted = str(folder / wanted)
    found = shutil.which(wanted, path=env["PATH"])
    if found is None:
        there = ", ".join(image.programs) or "none"
        raise NotStarted(
            "CreateContainerError",
            f'exec: "{word}": executable file not found in $PATH: a process node runs what its machine has; install '
            f"it, or name it among the programs of the image {image.pattern} in the agent's table (there: {there})",
        )
    return found

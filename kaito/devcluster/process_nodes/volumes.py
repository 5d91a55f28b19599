"""Volumes: a pod's folders of this machine, made of what the pod's spec says they have in them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from kaito.client import Client, KubeError
from kaito.devcluster.process_nodes import atomic_files
from kaito.devcluster.process_nodes.atomic_files import FileContent
from kaito.devcluster.process_nodes.sandbox import NotStarted
from kaito.devcluster.process_nodes.service_account_tokens import ServiceAccountTokens
from kaito.devcluster.process_nodes.variables import data_of, pod_field, resource_field
from kaito.kube.core_v1 import ConfigMap, EmptyDirVolumeSource, Pod, Secret, Volume
from kaito.kube.object_key import ObjectKey

Kind = Literal["configMap", "secret", "downwardAPI", "serviceAccountToken"]

_MEMORY: Final = Path("/dev/shm")
_FILE_MODE: Final = 0o644
_OWNER_READS: Final = 0o400
_WRITTEN: Final = ("configMap", "secret", "downwardAPI", "projected")


class Volumes:
    """The volumes of a pod, in a folder of its own.

    What cannot be had without root: a read-only volume can be written to, and the size limit of an emptyDir is not
    enforced.

    Args:
        pod: whose.
        client: where ConfigMaps and Secrets are read, and tokens are got.
        folder: in which each volume gets its folder, or a link to where it is.
        address: the pod's, as the cluster knows it.
        memory: where emptyDirs in memory are made; see `memory_folder`.
    """

    def __init__(self, pod: Pod, client: Client, folder: Path, address: str, memory: Path) -> None:
        self.pod = pod
        self._client = client
        self._folder = folder
        self._address = address
        self._memory = memory
        self._tokens = ServiceAccountTokens(client)

    async def make(self) -> None:
        """Makes what is missing, and writes anew what its source has otherwise by now.

        Raises:
            NotStarted: a source is not there, or there are no such volumes here; FailedMount.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for volume in self.pod.spec.volumes:
            try:
                await self._make(volume)
            except (OSError, KubeError, ValueError) as error:
                text = f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
                raise NotStarted("FailedMount", text) from error

    def place(self, volume: str, sub_path: str) -> Path:
        """Where a volume is, or a part of it, which is made if it is not there.

        Raises:
            ValueError: the pod has no such volume, or the part is not within it.
        """
        folder = self._folder / volume
        if not any(each.name == volume for each in self.pod.spec.volumes):
            raise ValueError(f'volume "{volume}" is mounted, and the pod has no volume of that name')
        if not sub_path:
            return folder
        part = folder / _inside(sub_path)
        # Before anything is made: a link in the volume may lead anywhere.
        if not part.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f'subPath "{sub_path}" leads out of the volume "{volume}"')
        if not part.exists():
            part.mkdir(parents=True, exist_ok=True)
        return part

    async def _make(self, volume: Volume) -> None:
        folder = self._folder / volume.name
        source = volume.to_dict()
        kind = next((name for name in _WRITTEN if name in source), None)
        if kind is not None:
            files = await self._files(kind, source[kind])
            await asyncio.to_thread(atomic_files.write, folder, files)
        elif volume.host_path is not None:
            _link(folder, _host_path(volume.host_path.path, volume.host_path.type or ""))
        elif volume.empty_dir is not None or source.keys() == {"name"}:
            memory = self._memory / self.pod.metadata.uid / volume.name
            _empty_dir(folder, volume.empty_dir or EmptyDirVolumeSource(), memory)
        else:
            [other] = source.keys() - {"name"}
            raise ValueError(
                f"process nodes have no volumes of the kind {other}; there are emptyDir, hostPath, configMap, secret, "
                f"downwardAPI and projected"
            )

    async def _files(self, kind: str, source: Mapping[str, Any]) -> dict[str, FileContent]:
        mode = source.get("defaultMode", _FILE_MODE)
        parts = source.get("sources", ()) if kind == "projected" else ({kind: source},)
        files: dict[str, FileContent] = {}
        for part in parts:
            for path, (content, own_mode) in (await self._part(part)).items():
                files[path] = FileContent(content, (own_mode or mode) | _OWNER_READS)
        return files

    async def _part(self, part: Mapping[str, Any]) -> dict[str, tuple[bytes, int | None]]:
        [(kind, source)] = part.items()
        if kind == "configMap":
            return await self._keys(ConfigMap, source.get("name", ""), source)
        if kind == "secret":
            return await self._keys(Secret, source.get("secretName") or source.get("name", ""), source)
        if kind == "downwardAPI":
            return {_inside(item["path"]): (self._item(item), item.get("mode")) for item in source.get("items", ())}
        if kind == "serviceAccountToken":
            token = await self._tokens.token(self.pod, source.get("audience"), source.get("expirationSeconds"))
            return {_inside(source["path"]): (token.encode(), None)}
        raise ValueError(
            f"process nodes project no {kind}; there are configMap, secret, downwardAPI and serviceAccountToken"
        )

    def _item(self, item: Mapping[str, Any]) -> bytes:
        if "fieldRef" in item:
            return pod_field(self.pod, item["fieldRef"]["fieldPath"], self._address).encode()
        return resource_field(self.pod, item["resourceFieldRef"]).encode()

    async def _keys(
        self, kind: type[ConfigMap] | type[Secret], name: str, source: Mapping[str, Any]
    ) -> dict[str, tuple[bytes, int | None]]:
        data = await data_of(self._client, kind, ObjectKey(name, self.pod.metadata.namespace))
        if data is None:
            if source.get("optional"):
                return {}
            raise ValueError(f'{kind.__name__.lower()} "{name}" not found')
        items: Sequence[Mapping[str, Any]] = source.get("items") or [{"key": key, "path": key} for key in data]
        missing = [item["key"] for item in items if item["key"] not in data]
        if missing and not source.get("optional"):
            what = "config" if kind is ConfigMap else "secret"
            raise ValueError(
                f"references non-existent {what} key: {missing[0]}; {name} has {', '.join(data) or 'none'}"
            )
        return {_inside(item["path"]): (data[item["key"]], item.get("mode")) for item in items if item["key"] in data}


def memory_folder(directory: Path) -> Path:
    """Where the agent of a directory has its pods' emptyDirs in memory. They go when it ends, as when a node does."""
    return _MEMORY / f"kaito-pods-{sha256(str(directory.resolve()).encode()).hexdigest()[:16]}"


def remove(folder: Path, memory: Path | None = None) -> None:
    """Removes a pod's folder, and its volumes in memory; what hostPath volumes lead to stays."""
    if memory is not None:
        remove(memory / folder.name)
    _remove_tree(folder)


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError(f"path {path!r}: expected one within the volume, without '..'")
    return str(PurePosixPath(path))


def _empty_dir(folder: Path, source: EmptyDirVolumeSource, memory: Path) -> None:
    if source.medium == "Memory" and os.access(_MEMORY, os.W_OK):
        for each in (memory.parent.parent, memory.parent, memory):
            each.mkdir(exist_ok=True, mode=0o700)
            if each.is_symlink() or each.stat().st_uid != os.getuid():
                raise ValueError(f"{each} is somebody else's; remove it")
        _link(folder, memory)
    else:
        folder.mkdir(exist_ok=True, mode=0o700)


def _host_path(path: str, kind: str) -> Path:
    found = Path(path)
    if kind == "DirectoryOrCreate":
        found.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        found.touch(exist_ok=True)
    checks = {
        "Directory": found.is_dir,
        "DirectoryOrCreate": found.is_dir,
        "File": found.is_file,
        "FileOrCreate": found.is_file,
        "Socket": found.is_socket,
        "CharDevice": found.is_char_device,
        "BlockDevice": found.is_block_device,
    }
    if not checks.get(kind, found.exists)():
        what = f"no {kind}" if kind else "not there"
        raise ValueError(f"hostPath type check failed: {path} is {what}; it is a path of the machine of the agent")
    return found


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(target)


def _remove_tree(folder: Path) -> None:
    # In a folder that all may write to, such as that of memory, a link may be somebody else's trap.
    if folder.is_symlink() or not folder.is_dir():
        return
    # A program may have taken away its own right to write.
    for path, names, _ in os.walk(folder):
        for each in (path, *(os.path.join(path, name) for name in names)):
            if not os.path.islink(each):
                with contextlib.suppress(OSError):
                    os.chmod(each, 0o700)
    shutil.rmtree(folder)

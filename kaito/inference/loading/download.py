"""Fetches a model from a Hugging Face hub: what is served of it, no more, and on from where it was interrupted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from huggingface_hub import (
    HfApi,
    close_session,
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented as being there

from kaito.inference.errors import StartError
from kaito.inference.options import ModelOptions
from kaito.inference.progress import DownloadProgress, DownloadStopped
from kaito.inference.wording import first_line, size, some

_log = logging.getLogger(__name__)

_WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.spm")
# Other forms of the same weights: what Mistral's own server reads, and what is in folders (onnx, original, …).
_UNWANTED = ("consolidated*", "*/*")
_AT_ONCE = 4


def download_model(options: ModelOptions, progress: Callable[[str], None], download: DownloadProgress) -> Path:
    """The folder of a model in the cache, after what is not there yet has come.

    Raises:
        StartError: It is not to be had: no such model, no access, no network, no space.
    """
    hub = _Hub(options, progress, download)
    try:
        with _as_start_errors(options, hub.endpoint):
            return hub.fetch()
    finally:
        close_session()


class _Hub:
    def __init__(self, options: ModelOptions, progress: Callable[[str], None], download: DownloadProgress) -> None:
        self.endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
        self._options, self._progress, self._download = options, progress, download
        self._cache = options.download_dir or Path(constants.HF_HUB_CACHE)
        self._blobs = self._cache / repo_folder_name(repo_id=options.model, repo_type="model") / "blobs"
        self._counts: dict[str, int] = {}
        self._wanted = [*_WANTED, *(["*.py"] if options.trust_remote_code else [])]

    def fetch(self) -> Path:
        model = self._options.model
        self._progress(f"looking for {model} on {self.endpoint}")
        try:
            info = HfApi(self.endpoint, token=self._options.token).model_info(
                model, revision=self._options.revision, files_metadata=True
            )
        except Exception as error:
            if isinstance(error, HFValidationError) or _is_refusal(error):
                raise
            return self._cached(error)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if self._is_wanted(file.rfilename)}
        if not any(name.endswith(".safetensors") for name in sizes):
            others = [
                file.rfilename for file in info.siblings or [] if file.rfilename.endswith((".bin", ".gguf", ".pt"))
            ]
            has = f"but {some(others)}" if others else "and no other weights"
            raise StartError(f"{model} has no safetensors {has}; choose a model with safetensors, or convert it")
        weights = {name: count for name, count in sizes.items() if name.endswith(".safetensors")}
        missing = [name for name in weights if not self._is_cached(name, info.sha)]
        total = sum(weights[name] for name in missing)
        self._check_space(total - sum(path.stat().st_size for path in self._blobs.glob("*.partial")))
        self._download.start(total)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="download") as threads:
            list(threads.map(lambda name: self._fetch_file(name, info.sha), missing))
        return self._from_hub(revision=self._options.revision)

    def _fetch_file(self, name: str, commit: str | None) -> None:
        """Into the hub's own cache, through a file that outlives this process: huggingface_hub's does not."""
        token = self._options.token
        url = hf_hub_url(self._options.model, name, revision=commit, endpoint=self.endpoint)
        found = get_hf_file_metadata(url, token=token, endpoint=self.endpoint)
        self._blobs.mkdir(parents=True, exist_ok=True)
        blob, incomplete = self._blobs / str(found.etag), self._blobs / f"{found.etag}.partial"
        with incomplete.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two servers may share a volume
            if not blob.exists():
                self._append(url, file, name, found.size)
                incomplete.replace(blob)

    def _append(self, url: str, file: BinaryIO, name: str, size_: int | None) -> None:
        """What is missing of a file; again as long as that brings something."""
        headers = build_hf_headers(token=self._options.token)
        while True:
            before = file.seek(0, os.SEEK_END)
            if size_ is not None and before > size_:
                before = file.truncate(0)
            try:
                http_get(
                    url, file, resume_size=before, headers=headers, expected_size=size_, tqdm_class=self._bar(name)
                )
                return
            except Exception as error:
                if file.tell() == before or isinstance(error, HfHubHTTPError | DownloadStopped) or _is_full(error):
                    raise
                _log.warning("download interrupted, going on", extra={"file": name, "error": first_line(error)})

    def _cached(self, error: Exception) -> Path:
        """Where the hub cannot be asked, what an earlier start has brought."""
        try:
            folder = self._from_hub(revision=self._options.revision, local_files_only=True)
        except OSError:
            raise StartError(
                f"{self.endpoint} cannot be reached ({first_line(error)}) and {self._options.model} is not in "
                f"{self._cache}; check network, proxy and HF_ENDPOINT, or give a folder with the model"
            ) from error
        _log.warning("hub not reached, model taken from the cache", extra={"error": first_line(error)})
        return folder

    def _from_hub(self, **settings: Any) -> Path:
        return Path(
            snapshot_download(
                self._options.model,
                endpoint=self.endpoint,
                token=self._options.token,
                cache_dir=self._cache,
                allow_patterns=self._wanted,
                ignore_patterns=list(_UNWANTED),
                tqdm_class=cast(Any, _Bar),
                **settings,
            )
        )

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._wanted) and not any(
            fnmatch(name, pattern) for pattern in _UNWANTED
        )

    def _is_cached(self, name: str, commit: str | None) -> bool:
        found = try_to_load_from_cache(self._options.model, name, cache_dir=self._cache, revision=commit)
        return isinstance(found, str)

    def _check_space(self, needed: int) -> None:
        there = next((path for path in (self._cache, *self._cache.parents) if path.exists()), Path("/"))
        free = shutil.disk_usage(there).free
        if needed > free:
            raise StartError(
                f"too little disk space: {self._options.model} needs {size(needed)} more in {self._cache}, and "
                f"{size(free)} are free; enlarge that volume, or set HF_HOME to another"
            )

    def _bar(self, name: str) -> Any:
        """huggingface_hub tells how far it is to what it takes for a progress bar on the screen."""
        return partial(_Bar, reached=lambda count: self._reached(name, count))

    def _reached(self, name: str, count: int) -> None:
        self._counts[name] = count
        if self._download.reach(sum(self._counts.values())):
            self._progress(f"downloading {self._options.model}: {self._download}")


class _Bar:
    """What huggingface_hub uses of a tqdm; shown nowhere."""

    format_dict: dict[str, Any] = {}  # noqa: RUF012 never written

    def __init__(self, *, initial: int = 0, reached: Callable[[int], None] = lambda _: None, **_: object) -> None:
        self.n, self.total, self._reached = initial, 0, reached
        self._reached(initial)

    def update(self, n: float | None = 1) -> None:
        self.n += int(n or 0)
        self._reached(self.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _ignored(self, *_: object, **__: object) -> None:
        pass

    close = refresh = set_description = set_description_str = set_postfix_str = _ignored


@contextlib.contextmanager
def _as_start_errors(options: ModelOptions, endpoint: str) -> Iterator[None]:
    model = options.model
    try:
        yield
    except StartError:
        raise
    except GatedRepoError as error:
        token = "has no access yet" if options.token or os.environ.get("HF_TOKEN") else "must be given"
        raise StartError(
            f"{model} is gated: accept its licence at {endpoint}/{model}; a token of that account, HF_TOKEN, {token}"
        ) from error
    except RevisionNotFoundError as error:
        raise StartError(f"{model} has no revision {options.revision}; see {endpoint}/{model}/tree/main") from error
    except RepositoryNotFoundError as error:
        raise StartError(
            f"{model} is not on {endpoint}, or is private: check its name; a private model needs a token in HF_TOKEN"
        ) from error
    except HFValidationError as error:
        raise StartError(f"{model} is neither a folder nor a Hugging Face id: {first_line(error)}") from error
    except HfHubHTTPError as error:
        raise StartError(f"{model} cannot be downloaded: {_status(error)}") from error
    except DownloadStopped as error:
        raise StartError(f"the download of {model} was stopped; what has come is kept: start again to go on") from error
    except Exception as error:  # httpx's, xet's, the file system's
        raise StartError(
            f"the download of {model} broke off ({first_line(error)}); what has come is kept: start again to go on"
        ) from error


def _status(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return f"the hub answers {status}: the token in HF_TOKEN is not valid, or has no right to read it"
    return f"the hub answers {status} ({first_line(error)}); try again later"


def _is_refusal(error: Exception) -> bool:
    """Whether the hub itself said no; a busy or broken one may still say yes."""
    return isinstance(error, HfHubHTTPError) and 400 <= error.response.status_code < 500 and not _is_busy(error)


def _is_busy(error: HfHubHTTPError) -> bool:
    return error.response.status_code in (408, 429)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENOSPC

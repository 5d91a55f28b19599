"""Fetches a model from a Hugging Face hub: what is served of it, no more, and on from where it was interrupted."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, close_session, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kaito.inference.errors import StartError
from kaito.inference.loading.checkpoint import first_line, some
from kaito.inference.loading.progress import DownloadProgress, size
from kaito.inference.options import ModelOptions

_log = logging.getLogger(__name__)

_WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.spm")
# Other forms of the same weights: what Mistral's own server reads, and what is in folders (onnx, original, …).
_UNWANTED = ("consolidated*", "*/*")


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
        self._check_space(self._missing(sizes, info.sha))
        return self._snapshot(sizes, info.sha)

    def _snapshot(self, sizes: Mapping[str, int], commit: str | None) -> Path:
        """Again as long as that brings something: what has come is not asked for twice."""
        total = self._missing(sizes, commit)
        self._download.start(total)
        while True:
            before = self._download.done_bytes
            bar = self._bar(total - self._missing(sizes, commit))
            try:
                folder = self._from_hub(revision=commit, tqdm_class=bar)
            except Exception as error:
                if self._download.done_bytes == before or _is_refusal(error) or _is_full(error):
                    raise
                _log.warning("download interrupted, going on model=%s error=%s", self._options.model, first_line(error))
                continue
            self._download.reach(total)
            return folder

    def _cached(self, error: Exception) -> Path:
        """Where the hub cannot be asked, what an earlier start has brought."""
        try:
            folder = self._from_hub(revision=self._options.revision, local_files_only=True)
        except OSError:
            raise StartError(
                f"{self.endpoint} cannot be reached ({first_line(error)}) and {self._options.model} is not in "
                f"{self._cache}; check network, proxy and HF_ENDPOINT, or give a folder with the model"
            ) from error
        _log.warning("hub not reached, model is taken from the cache model=%s error=%s", self._options.model, error)
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
                **settings,
            )
        )

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._wanted) and not any(
            fnmatch(name, pattern) for pattern in _UNWANTED
        )

    def _missing(self, sizes: Mapping[str, int], commit: str | None) -> int:
        """Bytes of files that are not in the cache as a whole."""
        model, cache = self._options.model, self._cache
        return sum(
            count
            for name, count in sizes.items()
            if not isinstance(try_to_load_from_cache(model, name, cache_dir=cache, revision=commit), str)
        )

    def _check_space(self, needed: int) -> None:
        there = next((path for path in (self._cache, *self._cache.parents) if path.exists()), Path("/"))
        free = shutil.disk_usage(there).free
        if needed > free:
            raise StartError(
                f"too little disk space: {self._options.model} needs {size(needed)} more in {self._cache}, and "
                f"{size(free)} are free; enlarge that volume, or set HF_HOME to another"
            )

    def _bar(self, cached: int) -> type[_Bar]:
        """huggingface_hub tells how far it is to what it takes for a progress bar on the screen."""
        download, progress, model = self._download, self._progress, self._options.model

        class Bar(_Bar):
            def reached(self) -> None:
                if self.in_bytes and download.reach(cached + self.n):
                    progress(f"downloading {model}: {download}")

        return Bar


class _Bar:
    """What huggingface_hub uses of a tqdm. Those in bytes are two, what came and what is on disk; either will do."""

    format_dict: dict[str, Any] = {}  # noqa: RUF012 never written

    def __init__(self, total: int = 0, initial: int = 0, unit: str = "it", **_: object) -> None:
        self.total, self.n, self.in_bytes = total, initial, unit == "B"

    def reached(self) -> None:
        """`n` is another."""

    def update(self, n: float | None = 1) -> None:
        self.n += int(n or 0)
        self.reached()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith(("set_", "refresh", "close", "clear")) and name != "set_lock":
            return lambda *_, **__: None
        raise AttributeError(name)


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

"""Hub: tells what a model is that the catalogue does not have, by asking Hugging Face, or a hub of its kind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from kaito.catalog import ModelPreset
from kaito.hub.advice import IN_A_CLUSTER, Advice
from kaito.hub.asking import Asking
from kaito.hub.errors import HubUnavailable, ModelUnusable, NoSuchModel
from kaito.hub.figures import HubFile
from kaito.hub.preset import preset_of
from kaito.hub.transport import HubAnswer, HubTransport, connect

PUBLIC_HUB = "https://huggingface.co"
RESOLVE_TIMEOUT_S = 60.0
MOST_PAGES = 20
"""Of a list of files, of a thousand each."""
_REVISION = "main"


@dataclass(frozen=True, slots=True)
class HubToken:
    """A token of a hub.

    Attributes:
        value: itself; in no message, log or ``repr``.
        origin: what messages call it by, such as ``Secret hf``.
    """

    value: str = field(repr=False)
    origin: str


class Hub:
    """A model hub.

    Args:
        endpoint: URL; default: the public hub.
        token: of the operator; lists files, for which hubs allow more often to those whom they know. Whether a model
            may be had is asked with what its pods will have instead: the Workspace's token, or none.
        connect: opens what requests are sent through.
        advice: next steps in the texts of errors.
    """

    def __init__(
        self,
        endpoint: str = PUBLIC_HUB,
        token: HubToken | None = None,
        connect: Callable[[], AbstractAsyncContextManager[HubTransport]] = connect,
        advice: Advice = IN_A_CLUSTER,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._connect = connect
        self._advice = advice

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, advice: Advice = IN_A_CLUSTER) -> Self:
        """A hub as ``HF_ENDPOINT`` and ``HF_TOKEN`` tell; by default the public one, asked without a token."""
        token = environment.get("HF_TOKEN", "").strip()
        endpoint = environment.get("HF_ENDPOINT", "").strip() or PUBLIC_HUB
        held = HubToken(token, "the operator's environment") if token else None
        return cls(endpoint, held, advice=advice)

    @property
    def endpoint_for_pods(self) -> str:
        """What pods must be told of it; empty: nothing, since it is the public one, or none."""
        return self.endpoint if self.endpoint != PUBLIC_HUB and _is_sound(self.endpoint) else ""

    async def resolve(self, model_id: str, token: HubToken | None = None) -> ModelPreset:
        """Returns what a model weighs, needs and can do. Takes at most a minute.

        Args:
            model_id: ORGANISATION/MODEL, of the form of `MODEL_ID`.
            token: of the Workspace.

        Raises:
            HubUnavailable: ask again later.
            ModelUnusable: it cannot be served.
            NoSuchModel: there is none of that name.
        """
        if not _is_sound(self.endpoint):
            raise HubUnavailable(
                f"HF_ENDPOINT of the operator is no URL of a hub that could tell what {model_id} is: it must "
                f"be http(s)://HOST[:PORT][/PATH], without user and password, which belong into HF_TOKEN"
            )
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S), self._connect() as transport:
                asking = Asking(transport, self.endpoint, model_id, self._advice.way_out)
                files = await self._files(asking, model_id, token)
                config = await self._config(asking, model_id, token)
                return preset_of(model_id, files, config, f"{self.endpoint}/{model_id}")
        except TimeoutError as error:
            raise HubUnavailable(
                f"{self.endpoint} did not tell within {RESOLVE_TIMEOUT_S:g} s what {model_id} is"
            ) from error

    async def _files(self, asking: Asking, model_id: str, token: HubToken | None) -> list[HubFile]:
        used = token or self._token
        files: list[HubFile] = []
        url: str | None = f"{self.endpoint}/api/models/{model_id}/tree/{_REVISION}?recursive=true"
        for _ in range(MOST_PAGES):
            if url is None:
                return files
            answer = await asking.get(url, used.value if used else "")
            if answer.status != 200:
                raise self._refused(answer, model_id, used)
            files += _files_of(await asking.json(answer, "list of files"))
            url = asking.next_page(url, answer)
        raise ModelUnusable(f"{model_id}: its repository has more than {MOST_PAGES} pages of files; is it a model?")

    async def _config(self, asking: Asking, model_id: str, token: HubToken | None) -> Mapping[str, object]:
        url = f"{self.endpoint}/{model_id}/resolve/{_REVISION}/config.json"
        answer = await asking.get(url, token.value if token else "")
        if answer.status == 404:
            raise ModelUnusable(f"{model_id}: it has no config.json, so that nobody can tell what it needs or runs on")
        if answer.status != 200:
            raise self._refused(answer, model_id, token)
        config = await asking.json(answer, "config.json")
        if not isinstance(config, dict):
            raise ModelUnusable(f"{model_id}: its config.json is no object")
        return config

    def _refused(self, answer: HubAnswer, model_id: str, token: HubToken | None) -> ModelUnusable:
        code = answer.headers.get("x-error-code", "")[:40]
        told = f"{answer.status}, {code}" if code else f"{answer.status}"
        access = f"{self._advice.access} ({self.endpoint}/{model_id})"
        if answer.status == 404 or code == "RepoNotFound":
            if token is None:
                text = f"{model_id} is no public model of {self.endpoint} ({told}); if it is private, {access}"
                return NoSuchModel(text)
            return NoSuchModel(f"{model_id} is no model of {self.endpoint} that the token of {token.origin} may see")
        if answer.status in (401, 403):
            cause = f"the token of {token.origin} was refused" if token else "it is not open to everybody"
            return ModelUnusable(f"{model_id}: {cause} ({told}): {access}")
        return ModelUnusable(f"{model_id}: {self.endpoint} answered {told}")


def _is_sound(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and "@" not in parts.netloc and not parts.query and not parts.fragment


def _files_of(page: object) -> Iterator[HubFile]:
    for entry in page if isinstance(page, list) else ():
        if not isinstance(entry, dict) or entry.get("type") != "file":
            continue
        path, size = entry.get("path"), entry.get("size")
        if isinstance(path, str) and type(size) is int and size > 0:
            yield HubFile(path, size)

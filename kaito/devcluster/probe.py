"""Plain blocking requests to servers on this machine: whether they are ready, and what else a test fixture needs."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.parse
from pathlib import Path
from typing import Final

from kaito.devcluster.errors import RequestError

_TIMEOUT_S: Final = 2.0
_REQUEST_TIMEOUT_S: Final = 30.0


class ApiProbe:
    """Asks an API server, with a client certificate.

    Args:
        url: Where it answers.
        ca: The authority that its certificate must be from.
        certificate: The client's certificate.
        key: Its key.
    """

    def __init__(self, url: str, *, ca: Path, certificate: Path, key: Path) -> None:
        self._server = urllib.parse.urlsplit(url).netloc
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._tls.load_cert_chain(certificate, key)

    def is_ready(self) -> bool:
        """Whether /readyz says ok, which includes all hooks that run after the start."""
        return self.exists("/readyz")

    def exists(self, path: str) -> bool:
        """Whether a GET of the path is answered with 200."""
        return _get(self._connect(_TIMEOUT_S), path) == 200

    def request(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Sends one request with a JSON body and returns the decoded answer.

        Raises:
            RequestError: The answer's status is 400 or more.
            OSError: The server cannot be reached.
        """
        connection = self._connect(_REQUEST_TIMEOUT_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            said = content.decode(errors="replace").strip()
            raise RequestError(f"{method} {path}: {response.status} {said}", status=response.status)
        answer: dict[str, object] = json.loads(content)
        return answer

    def _connect(self, timeout_s: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._server, timeout=timeout_s, context=self._tls)


def answers_ok(url: str) -> bool:
    """Whether a plain HTTP server answers 200 at an address."""
    parts = urllib.parse.urlsplit(url)
    return _get(http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S), parts.path) == 200


def accepts(host: str, port: int) -> bool:
    """Whether a server takes connections there."""
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _get(connection: http.client.HTTPConnection, path: str) -> int | None:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

"""A token server for a registry: bearer tokens for those who know the password, signed with a key of its own."""

from __future__ import annotations

import base64
import datetime
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from kaito.devcluster import TokenAccess

LEEWAY_S = 60
"""For so long after its end the registry still takes a token."""
USER, PASSWORD, REFRESH_TOKEN = "alice", "secret", "refresh-me"


class TokenServer:
    """Serves `/token` on loopback.

    Attributes:
        asked: the scopes that it was asked for.
        run_out_s: when the registry no longer takes the last token, in seconds of the epoch.
    """

    def __init__(self, directory: Path, lifetime_s: int = 300) -> None:
        self._certificates, self._lifetime_s = directory / "certificates.pem", lifetime_s
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.asked: list[str] = []
        self.run_out_s = 0.0

    @property
    def access(self) -> TokenAccess:
        """What the registry needs to know."""
        return TokenAccess(f"{self._url}/token", "the registry", "the token server", self._certificates)

    async def __aenter__(self) -> Self:
        self._certificate = self._issue()
        self._certificates.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        app = web.Application()
        app.router.add_route("*", "/token", self._token)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post() if request.method == "POST" else request.query
        self.asked.append(str(form["scope"]))
        if request.method == "POST":
            knows = form["refresh_token"] == REFRESH_TOKEN
        else:
            wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            knows = request.headers.get("Authorization") == f"Basic {wanted}"
        if not knows:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}, status=401)
        kind, name, actions = str(form["scope"]).split(":")
        token = self._sign([{"type": kind, "name": name, "actions": actions.split(",")}])
        return web.json_response({"token": token, "expires_in": self._lifetime_s})

    def _sign(self, access: list[dict[str, Any]]) -> str:
        chain = [base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()]
        now = int(time.time())
        self.run_out_s = now + self._lifetime_s + LEEWAY_S
        claims = {
            "iss": self.access.issuer,
            "sub": USER,
            "aud": self.access.service,
            "iat": now,
            "nbf": now - 10,
            "exp": now + self._lifetime_s,
            "jti": str(len(self.asked)),
            "access": access,
        }
        text = f"{_encoded({'typ': 'JWT', 'alg': 'RS256', 'x5c': chain})}.{_encoded(claims)}"
        return f"{text}.{_base64url(self._key.sign(text.encode(), PKCS1v15(), hashes.SHA256()))}"

    def _issue(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token server")])
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _encoded(value: object) -> str:
    return _base64url(json.dumps(value).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

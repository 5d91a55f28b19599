"""A registry over TLS: whom to trust, and that nothing leads from https to http; token servers that fail."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kaito.devcluster import Registry as RegistryProgram
from kaito.devcluster.certificates import CertificateAuthority
from kaito.oci.client import Registry
from kaito.oci.credentials import Keyring
from kaito.oci.errors import OciError
from kaito.oci.push import push_artifact
from kaito.oci.reference import Reference
from kaito.oci.retries import Retries
from tests.operating.registry_proxy import Act, Fault, RegistryProxy, answer, cut_answer, silent

QUICK = Retries(attempts=2, first_s=0.01)
# A process of its own, which reads SSL_CERT_FILE at its start.
SCRIPT = """
import asyncio, sys
from pathlib import Path
from kaito.oci.client import Registry
from kaito.oci.errors import OciError
from kaito.oci.pull import fetch, resolve
from kaito.oci.push import push_artifact
from kaito.oci.reference import Reference
from kaito.oci.retries import Retries

async def run(what, folder):
    for number, reference in enumerate(sys.argv[3:]):
        try:
            retries = Retries(attempts=2, first_s=0.01)
            async with Registry(Reference.parse(reference), plain_http=False, retries=retries) as registry:
                if what == "pull":
                    await fetch(registry, (await resolve(registry)).manifest.layers, Path(folder, f"blobs{number}"))
                else:
                    await push_artifact(registry, Path(folder, "adapter"))
            print("done")
        except OciError as error:
            print(error)

asyncio.run(run(*sys.argv[1:3]))
"""


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegistryProgram]:
    async with RegistryProgram(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority("of the tests")


@pytest.fixture
def tls(authority: CertificateAuthority, tmp_path: Path) -> ssl.SSLContext:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.issue_server(["127.0.0.1", "localhost"]).write(certificate, key)
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def told(folder: Path, what: str, *references: str, trusted: bool = True) -> list[str]:
    """What a client over TLS says of each reference."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, what, str(folder), *references),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder), **({"SSL_CERT_FILE": str(folder / "ca.crt")} if trusted else {})},
    )
    output, _ = await process.communicate()
    return output.decode().splitlines()


async def test_over_tls_nothing_leads_to_http(program: RegistryProgram, tls: ssl.SSLContext, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "file").write_text("x" * 100)
    async with Registry(Reference.parse(f"{program.address}/a:1")) as registry:
        await push_artifact(registry, adapter)
    # Another content, which has to be sent.
    (adapter / "file").write_text("y" * 100)
    plain = f"http://{program.address}/v2/a/blobs/x?signature=secret"
    down = [Fault("GET .*/blobs/", answer(307, Location=plain)), Fault("POST", answer(202, Location=plain))]
    async with (
        RegistryProxy(program.address, tls=tls) as good,
        RegistryProxy(program.address, *down, tls=tls) as bad,
        RegistryProxy(program.address, tls=tls) as on,
    ):
        on.faults.append(Fault("GET .*/blobs/", elsewhere(good)))
        refused = f"{bad.address} sends its clients on to http://{program.address}/v2/a/blobs/x, which is not https"
        done, fine, why = await told(tmp_path, "pull", *(f"{each.address}/a:1" for each in (good, on, bad)))
        assert (done, fine) == ("done", "done")
        assert refused in why
        [why] = await told(tmp_path, "push", f"{bad.address}/a:1")
        assert refused in why
        untrusted, no_tls = await told(tmp_path, "pull", f"{good.address}/a:1", f"{program.address}/a:1", trusted=False)
        assert "its certificate is not trusted (unable to get local issuer certificate)" in untrusted
        assert "name its authority in SSL_CERT_FILE" in untrusted
        assert "it does not speak TLS" in no_tls
        assert "with --plain-http it is asked without" in no_tls


def elsewhere(store: RegistryProxy) -> Act:
    """Sends on to the same path of another host."""

    async def act(_: RegistryProxy, request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"https://{store.address}{request.raw_path}"})

    return act


REALM = 'Bearer realm="{}",service="r"'


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("/token", answer(503)), "/token, the token server of 127.*, answers 503 without a token"),
        (Fault("/token", answer(200, "<html>")), "answers 200 without a token"),
        (Fault("/token", answer(200, '{"token": "a\\r\\nX-Evil: 1"}')), "answers 200 without a token"),
        (Fault("/token", cut_answer(0)), "the token server of 127.*, cannot be reached"),
        (Fault("/token", silent()), "the token server of 127.*, cannot be reached: .*(time|Timeout)"),
        (Fault("/token", answer(401, '{"details": "who are you?"}')), r"without credentials \(who are you\?\)"),
        (Fault("/token", answer(200, '{"token": "never-taken"}')), "lets nobody pull from it without credentials"),
        (None, "cannot be reached: Cannot connect to host"),
    ],
)
async def test_a_token_server_that_fails_is_named(program: RegistryProgram, fault: Fault | None, said: str) -> None:
    async with RegistryProxy(program.address, *([fault] if fault else [])) as tokens:
        realm = f"http://{tokens.address if fault else '127.0.0.1:9'}/token"
        wants = answer(401, WWW_Authenticate=REALM.format(realm))
        async with RegistryProxy(program.address, Fault("/v2/", wants)) as proxy:
            reference = Reference.parse(f"{proxy.address}/a:1")
            async with Registry(reference, Keyring(), retries=QUICK, silence_s=0.3) as registry:
                with pytest.raises(OciError, match=said) as caught:
                    await registry.manifest()
    assert len(str(caught.value).splitlines()) == 1

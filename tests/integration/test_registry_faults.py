"""Pull and push against a real registry behind a proxy that breaks connections, sends on, refuses and stays silent."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from kaito.devcluster import Registry as RegistryProgram
from kaito.oci.client import Registry
from kaito.oci.credentials import Keyring
from kaito.oci.digest import Digest
from kaito.oci.errors import (
    DigestMismatchError,
    ManifestError,
    NotFoundError,
    OciError,
    RegistryError,
    UnreachableError,
)
from kaito.oci.manifests import OCI_INDEX
from kaito.oci.pull import fetch, resolve
from kaito.oci.push import Extras, push_artifact, push_image
from kaito.oci.reference import Reference
from kaito.oci.retries import Retries, retry_after_s
from kaito.testing import eventually
from tests.operating.registry_proxy import (
    Fault,
    RegistryProxy,
    answer,
    cut_answer,
    cut_request,
    silent,
    then_lost,
)

QUICK = Retries(attempts=4, first_s=0.01)
# The larger piece of an upload, and a bit.
SIZE = (18 << 20) + 12_345
BLOB, UPLOADED = r"GET /v2/.*/blobs/", r"PATCH "


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegistryProgram]:
    async with RegistryProgram(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
async def image(program: RegistryProgram, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """A small image that is there, and the size of its layer."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "weights").write_bytes(os.urandom(1_000_000))
    async with Registry(Reference.parse(f"{program.address}/small:1")) as registry:
        await push_image(registry, folder)
        return "small:1", (await resolve(registry)).manifest.layers[0].size


def client(address: str, name: str, **more: Any) -> Registry:
    return Registry(Reference.parse(f"{address}/{name}"), Keyring(), **{"retries": QUICK, **more})


async def pull(address: str, name: str, folder: Path, **more: Any) -> list[Path]:
    async with client(address, name, **more) as registry:
        return await fetch(registry, (await resolve(registry)).manifest.layers, folder)


async def push(address: str, name: str, folder: Path, **more: Any) -> Digest:
    async with client(address, name, **more) as registry:
        return await push_artifact(registry, folder)


def without(headers: Mapping[str, str], name: str) -> dict[str, str]:
    return {each: value for each, value in headers.items() if each != name}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(SIZE))
    return folder


# ── uploads


@pytest.mark.parametrize(
    ("fault", "resent"),
    [
        pytest.param(Fault(UPLOADED, cut_request(5 << 20), times=3), 0.1, id="cut-three-times"),
        pytest.param(Fault(UPLOADED, then_lost(), times=1), 0.01, id="its-answer-lost"),
        pytest.param(Fault(UPLOADED, answer(503, Retry_After="0"), times=2), 0.01, id="busy"),
        pytest.param(Fault(UPLOADED, answer(416), times=1), 0.01, id="another-range"),
        pytest.param(Fault("PUT .*digest=", then_lost(), times=1), 0.01, id="the-last-answer-lost"),
    ],
)
async def test_an_upload_goes_on_from_what_the_registry_has(
    program: RegistryProgram, weights: Path, tmp_path: Path, fault: Fault, resent: float
) -> None:
    async with RegistryProxy(program.address, fault) as proxy:
        await push(proxy.address, "up/a:1", weights)
    assert sum(each.sent for each in proxy.of(UPLOADED)) <= SIZE * (1 + resent) + 10
    [blob] = await pull(program.address, "up/a:1", tmp_path / "blobs")
    assert blob.read_bytes() == (weights / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(("limit_bytes", "patches"), [(SIZE, 1), (17 << 20, 2), (1 << 20, 37)])
async def test_a_file_is_sent_as_one_or_in_pieces_that_a_proxy_lets_through(
    program: RegistryProgram, weights: Path, limit_bytes: int, patches: int
) -> None:
    async def limited(proxy: RegistryProxy, request: web.Request) -> web.StreamResponse:
        if (request.content_length or 0) <= limit_bytes:
            return await proxy.forward(request)
        return await answer(413)(proxy, request)

    async with RegistryProxy(program.address, Fault(UPLOADED, limited)) as proxy:
        await push(proxy.address, f"up/limit-{patches}:1", weights)
        taken = [each for each in proxy.of(UPLOADED) if each.sent > 2]
    assert len(taken) == patches
    # Without a range, as docker sends it: not all registries know pieces.
    assert ("Content-Range" in taken[0].headers) == (patches > 1)
    assert sum(each.sent for each in taken) == SIZE


async def test_an_upload_that_the_registry_has_forgotten_begins_anew(program: RegistryProgram, weights: Path) -> None:
    gone = Fault(UPLOADED, answer(404, '{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'), times=0)
    async with RegistryProxy(program.address, gone) as proxy:
        gone.times = 1
        await push(proxy.address, "up/b:1", weights)
        assert len(proxy.of("POST .*/blobs/uploads/")) == 3  # the config, the file, and the file once more


async def test_an_upload_that_never_gets_on_ends(program: RegistryProgram, weights: Path) -> None:
    async with RegistryProxy(program.address, Fault(UPLOADED, answer(416))) as proxy:
        with pytest.raises(UnreachableError, match="does not take more than 0 bytes"):
            await push(proxy.address, "up/c:1", weights)
        proxy.faults[:] = [Fault(UPLOADED, answer(413))]
        with pytest.raises(RegistryError, match="answers 413 Request Entity Too Large"):
            await push(proxy.address, "up/c:1", weights)


async def test_an_upload_that_nobody_reads_is_given_up(program: RegistryProgram, weights: Path) -> None:
    async with RegistryProxy(program.address, Fault(UPLOADED, silent(), times=1)) as proxy:
        started = time.monotonic()
        await push(proxy.address, "up/d:1", weights, silence_s=0.5)
        assert time.monotonic() - started < 10
    async with RegistryProxy(program.address, Fault("POST", silent())) as proxy:
        with pytest.raises(UnreachableError, match=r"0\.2 s of silence"):
            await push(proxy.address, "up/e:1", weights, silence_s=0.2, retries=Retries(attempts=1))


async def test_packing_that_is_called_off_ends_and_leaves_nothing(
    program: RegistryProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, folder = tmp_path / "scratch", tmp_path / "large"
    for each in (scratch, folder):
        each.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (folder / "weights").touch()
    os.truncate(folder / "weights", 8 << 30)  # half a minute's work
    async with client(program.address, "up/large:1") as registry:
        work = asyncio.create_task(push_image(registry, folder))
        await eventually(lambda: written(scratch) or None, message="the layer's begin")
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await eventually(lambda: not written(scratch) or None, timeout_s=5, message="the end of packing")
    assert list(scratch.iterdir()) == []


def written(folder: Path) -> list[str]:
    """Files below a folder that this process has open."""
    opened = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            opened.append(os.readlink(each))
    return [each for each in opened if each.startswith(str(folder))]


# ── downloads


async def test_a_server_that_knows_no_ranges_is_asked_for_all_again(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path
) -> None:
    async def whole(proxy: RegistryProxy, request: web.Request) -> web.StreamResponse:
        return await proxy.forward(request.clone(headers=without(request.headers, "Range")), answers=limits.pop(0))

    name, size = image
    # It gets further each time, although from the start.
    limits = [200_000, 400_000, 600_000, 800_000, 900_000, -1]
    async with RegistryProxy(program.address, Fault(BLOB, whole)) as proxy:
        [blob] = await pull(proxy.address, name, tmp_path)
        assert limits == []
        limits = [200_000] * 10
        with pytest.raises(UnreachableError, match="breaks connections off"):
            await pull(proxy.address, name, tmp_path / "more")
        assert len(limits) == 10 - QUICK.attempts
    assert blob.stat().st_size == size


async def test_pieces_that_were_put_wrong_are_fetched_again_as_one_and_then_told(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path
) -> None:
    async def wrong(proxy: RegistryProxy, request: web.Request) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        return web.Response(status=206 if start else 200, body=b"x" * (size - start), headers=headers)

    name, size = image
    cut = Fault(BLOB, cut_answer(300_000), times=1)
    async with RegistryProxy(program.address, cut, Fault(BLOB, wrong, times=1)) as proxy:
        await pull(proxy.address, name, tmp_path)
        assert [each.headers.get("Range") for each in proxy.of(BLOB)] == [None, "bytes=300000-", None]
        proxy.faults[:] = [Fault(BLOB, cut_answer(300_000), times=1), Fault(BLOB, wrong)]
        with pytest.raises(DigestMismatchError, match="has other bytes than its digest says; it is broken there or"):
            await pull(proxy.address, name, tmp_path / "more")
    assert list((tmp_path / "more").iterdir()) == []


PAGE = "<html>log in</html>"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(Fault(BLOB, answer(200, PAGE)), r"ended after 19 of 1\d{6} bytes", id="a-short-page"),
        pytest.param(Fault(BLOB, answer(416)), "ended after 0 of", id="no-range-will-do"),
        pytest.param(Fault(BLOB, answer(200, b"x" * 2_000_000)), "longer than the 1", id="too-long"),
        pytest.param(Fault("/manifests/", cut_answer(50)), "breaks connections off", id="a-cut-manifest"),
        pytest.param(
            Fault("/manifests/", answer(200, PAGE, Content_Type="text/html")),
            "127.0.0.1 answers with a web page instead of a manifest; check the registry's name and port",
            id="a-page-for-a-manifest",
        ),
        pytest.param(
            Fault("/manifests/", answer(404, PAGE * 9999, Content_Type="text/html")),
            "has no such thing; check registry, repository and tag",
            id="a-long-page-of-404",
        ),
        pytest.param(
            Fault("/manifests/", answer(502, PAGE, Content_Type="text/html; charset=utf-8")),
            "answers 502: with a web page, as no registry does",
            id="a-page-of-a-proxy",
        ),
        pytest.param(Fault("/manifests/", answer(404, "[" * 60_000)), "has no such thing; check", id="deep-json"),
        pytest.param(Fault("/manifests/", answer(500)), "answers 500 Internal Server Error", id="broken"),
        pytest.param(
            Fault("/manifests/", answer(200, '{"schemaVersion": 1, "fsLayers": [{"blobSum": "x"}]}')),
            "small:1: is an image of Docker's schema 1, of before 2017, which is not read; push it again",
            id="schema-1",
        ),
        pytest.param(
            Fault("/manifests/", answer(200, '{"schemaVersion": 2}')),
            "none of OCI or Docker: config: Field required",
            id="half-a-manifest",
        ),
        pytest.param(
            Fault("/manifests/", answer(200, '{"schemaVersion": 2, "layers": [], "manifests": []}')),
            "has layers and manifests, so it may be an image or an index",
            id="image-and-index",
        ),
        pytest.param(Fault("/manifests/", answer(200, b"{" * (5 << 20))), "more than 4194304 bytes", id="no-end"),
    ],
)
async def test_what_is_no_answer_of_a_registry_ends_in_one_line(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path, fault: Fault, said: str
) -> None:
    async with RegistryProxy(program.address, fault) as proxy:
        with pytest.raises(OciError, match=said) as caught:
            await pull(proxy.address, image[0], tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


async def test_the_pause_that_a_registry_asks_for_is_made_and_told(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path
) -> None:
    said: list[str] = []
    date = email.utils.formatdate(time.time() + 1, usegmt=True)
    busy = [
        Fault("/manifests/", answer(429, '{"errors": [{"code": "TOOMANYREQUESTS"}]}', Retry_After="1"), times=1),
        Fault(BLOB, answer(503, Retry_After=date), times=1),
    ]
    async with RegistryProxy(program.address, *busy) as proxy:
        started = time.monotonic()
        await pull(proxy.address, image[0], tmp_path, say=said.append)
        assert 1.0 < time.monotonic() - started < 8
    assert said[0].endswith("small:1: the registry answers 429: TOOMANYREQUESTS; trying again in 1.0 s")
    assert "the registry answers 503" in said[1]


def test_a_pause_may_be_asked_for_by_a_date_and_one_of_hours_is_cut_to_a_minute() -> None:
    assert 28 < (retry_after_s(email.utils.formatdate(time.time() + 30, usegmt=True)) or 0) <= 30
    assert Retries().pause_s(1, 86_400.0) == 60.0
    assert retry_after_s("soon") is None


# ── redirects


async def test_a_blob_may_lie_on_another_host_which_gets_no_password(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path
) -> None:
    async with RegistryProxy(program.address) as store:
        signed = f"http://{store.address}/v2/small/blobs/{{digest}}?X-Amz-Signature=a%2Fb%3D&p=a+b"

        async def elsewhere(_: RegistryProxy, request: web.Request) -> web.StreamResponse:
            where = signed.format(digest=request.path.rpartition("/")[2])
            return web.Response(status=307, headers={"Location": where})

        wants = answer(401, WWW_Authenticate='Basic realm="r"')
        asks = Fault("/manifests/", wants, times=1)
        store.faults.append(Fault("/blobs/", cut_answer(400_000), times=1))
        async with RegistryProxy(program.address, asks, Fault(BLOB, elsewhere)) as proxy:
            auths = {"auths": {proxy.address: {"username": "me", "password": "hunter2"}}}
            keys = Keyring({Path("config.json"): auths})
            async with Registry(Reference.parse(f"{proxy.address}/small:1"), keys, retries=QUICK) as registry:
                await fetch(registry, (await resolve(registry)).manifest.layers, tmp_path)
            assert all("Authorization" in each.headers for each in proxy.seen[1:])
        assert len(store.seen) == 2
        assert not any("Authorization" in each.headers for each in store.seen)
        assert store.seen[1].headers["Range"] == "bytes=400000-"
        assert store.seen[0].path.endswith("?X-Amz-Signature=a%2Fb%3D&p=a+b")  # what is signed is as it was


async def test_a_store_that_refuses_or_is_down_is_named(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path
) -> None:
    async with RegistryProxy(program.address, Fault("", answer(403, "<Error>Expired</Error>"))) as store:
        there = f"http://localhost:{store.address.split(':')[1]}/x"
        away = Fault(BLOB, answer(302, Location=there))
        async with RegistryProxy(program.address, away) as proxy:
            with pytest.raises(RegistryError, match="localhost answers 403 Forbidden"):
                await pull(proxy.address, image[0], tmp_path)
    async with RegistryProxy(program.address, away) as proxy:
        with pytest.raises(UnreachableError, match=r": localhost:\d+, to which the registry 127.* sends its clients,"):
            await pull(proxy.address, image[0], tmp_path)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("/v2/small/blobs/again", r"sends its clients on again and again, the last times to http://127\S*/again and"),
        ("ftp://example.com/x", "sends its clients on to 'ftp://example.com/x', which is no address"),
        ("http://[::1", "which is no address"),
        ("/a b", "which is no address"),
        ("http://127.0.0.1:99999/x", "which is no address"),
        ("http://a..b/x", "http://a..b/x is no address that can be asked"),
        ("", "does not say where to go on"),
    ],
)
async def test_redirects_that_lead_nowhere_are_not_followed(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path, where: str, said: str
) -> None:
    async with RegistryProxy(program.address, Fault(BLOB, answer(302, Location=where))) as proxy:
        with pytest.raises(OciError, match=said):
            await pull(proxy.address, image[0], tmp_path)
        assert len(proxy.of(BLOB)) <= 6


# ── proxies, tokens


async def test_a_proxy_is_gone_through_with_its_password_and_netrc_is_not_read(
    program: RegistryProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret")
    async with RegistryProxy(program.address, Fault("", answer(404))) as proxy:
        for name, value in {
            "NETRC": str(tmp_path / "netrc"),
            "http_proxy": f"http://user:pass@{proxy.address}",
            "no_proxy": "",
        }.items():
            monkeypatch.setenv(name, value)
        async with Registry(
            Reference.parse("registry.test/a:1"), Keyring(), plain_http=True, retries=QUICK
        ) as registry:
            with pytest.raises(NotFoundError):
                await resolve(registry)
        [asked] = proxy.seen
    assert asked.headers["Host"] == "registry.test"
    assert asked.headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
    assert "Authorization" not in asked.headers


async def test_a_token_is_also_asked_for_what_the_registry_calls_the_repository(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path
) -> None:
    refused = Fault("/manifests/", answer(401), times=1)
    async with RegistryProxy(program.address, Fault("/token", answer(200, '{"token": "t"}')), refused) as proxy:
        scope = 'scope="repository:small:pull repository:hosted/small:pull"'
        challenge = f'Bearer realm="http://{proxy.address}/token",service="s",{scope}'
        refused.act = answer(401, WWW_Authenticate=challenge)
        await pull(proxy.address, image[0], tmp_path)
        [asked] = proxy.of("/token")
    assert parse_qs(urlsplit(asked.path).query)["scope"] == ["repository:small:pull", "repository:hosted/small:pull"]


# ── indexes, mounts, HEAD


INDEX_TYPES = [OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"]


@pytest.mark.parametrize("media_type", INDEX_TYPES)
async def test_of_an_index_the_image_for_this_machine_is_taken(
    program: RegistryProgram, image: tuple[str, int], tmp_path: Path, media_type: str
) -> None:
    async def put(tag: str, *platforms: tuple[str, str]) -> None:
        entries = [
            {
                "mediaType": manifest.media_type,
                "digest": str(manifest.digest),
                "size": len(manifest.content),
                "platform": {"os": os_name, "architecture": architecture},
            }
            for os_name, architecture in platforms
        ]
        made = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()
        registry.allow_push()
        headers = {"Content-Type": media_type}
        async with registry.request("PUT", f"manifests/{tag}", what=tag, expected=(201,), headers=headers, data=made):
            pass

    here = "arm64" if os.uname().machine == "aarch64" else "amd64"
    async with client(program.address, "small:1") as registry:
        manifest = await registry.manifest()
        await put("several", ("linux", "s390x"), ("linux", here), ("windows", here))
        await put("one", ("linux", "s390x"))
        await put("others", ("linux", "s390x"), ("windows", "amd64"))
    for tag in ("several", "one"):
        assert len(await pull(program.address, f"small:{tag}", tmp_path)) == 1
    with pytest.raises(ManifestError, match=rf"has no image for linux/{here}, but for linux/s390x, windows/amd64"):
        await pull(program.address, "small:others", tmp_path)


async def test_what_another_repository_has_is_not_sent_again(program: RegistryProgram, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(os.urandom(100_000))
    await push(program.address, "mount/from:1", tmp_path / "a")
    async with RegistryProxy(program.address) as proxy, client(proxy.address, "mount/to:1") as registry:
        await push_artifact(registry, tmp_path / "a", Extras(mount_from="mount/from"))
        assert proxy.of(UPLOADED) == []
        registry.reference = Reference.parse(f"{proxy.address}/mount/to:2")
        (tmp_path / "a" / "weights").write_bytes(os.urandom(100_000))
        await push_artifact(registry, tmp_path / "a", Extras(mount_from="mount/from"))
        assert len(proxy.of(UPLOADED)) == 1
    assert len(await pull(program.address, "mount/to:2", tmp_path / "blobs")) == 1


async def test_a_registry_without_head_is_pushed_to(program: RegistryProgram, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    async with RegistryProxy(program.address, Fault("HEAD", answer(405))) as proxy:
        await push(proxy.address, "no/head:1", tmp_path / "a")
    assert len(await pull(program.address, "no/head:1", tmp_path / "blobs")) == 1

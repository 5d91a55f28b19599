"""Credentials: which entry of which file is for which image."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kaito.oci.credentials import load_keyring, matches
from kaito.oci.errors import CredentialsError
from kaito.oci.reference import Reference


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, **config: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return path


async def found(folder: Path, image: str, **environment: str) -> list[tuple[str, str, str]]:
    credentials = await load_keyring([folder], environment).find(Reference.parse(image))
    return [(each.username, each.password, each.identity_token) for each in credentials]


@pytest.mark.parametrize(
    ("key", "image", "fits"),
    [
        ("r.example.com", "r.example.com/a/b", True),
        ("https://r.example.com/v2/", "r.example.com/a", True),
        ("r.example.com", "r.example.com:5000/a", False),
        ("r.example.com:5000", "r.example.com:5000/a", True),
        ("*.azurecr.io", "mine.azurecr.io/a", True),
        ("*.azurecr.io", "a.b.azurecr.io/a", False),
        ("r.example.com/team", "r.example.com/team/a", True),
        ("r.example.com/team", "r.example.com/teamwork/a", False),
        ("https://index.docker.io/v1/", "busybox", True),
        ("docker.io", "someone/a", True),
        ("docker.io", "r.example.com/docker.io", False),
    ],
)
def test_an_entry_is_for_a_registry_a_pattern_of_them_or_a_path_in_one(key: str, image: str, fits: bool) -> None:
    assert matches(key, Reference.parse(image)) is fits


async def test_the_most_specific_entry_comes_first_and_the_others_after(tmp_path: Path) -> None:
    config = {
        "*.example.com": auth("any", "0"),
        "r.example.com": auth("all", "1"),
        "r.example.com/team": {"username": "team", "password": "2:3"},
    }
    write(tmp_path / "config.json", auths=config)
    users = [user for user, _, _ in await found(tmp_path, "r.example.com/team/a")]
    assert users == ["team", "all", "any"]
    assert await found(tmp_path, "r.example.com/other") == [("all", "1", ""), ("any", "0", "")]


async def test_secrets_mounted_side_by_side_and_dockers_own_file_are_all_read(tmp_path: Path) -> None:
    write(tmp_path / "secrets" / "one" / "config.json", auths={"r.example.com": auth("one", "1")})
    # As a volume does: the file behind a link in a hidden folder.
    data = write(
        tmp_path / "secrets" / "two" / "..data" / ".dockerconfigjson", auths={"s.example.com": auth("two", "2")}
    )
    (data.parents[1] / ".dockerconfigjson").symlink_to("..data/.dockerconfigjson")
    own = write(tmp_path / "own" / "config.json", auths={"t.example.com": {"identitytoken": "three"}})
    for registry, wanted in (("r", ("one", "1", "")), ("s", ("two", "2", "")), ("t", ("", "", "three"))):
        image = f"{registry}.example.com/a"
        assert await found(tmp_path / "secrets", image, DOCKER_CONFIG=str(own.parent)) == [wanted]


async def test_a_helper_is_asked_for_its_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = """read server; printf '{"Username": "me at %s", "Secret": "s"}' "$server\""""
    install(tmp_path, monkeypatch, f"#!/bin/sh\n{said}\n")
    assert await found(tmp_path, "r.example.com/a") == [("me at r.example.com", "s", "")]
    assert await found(tmp_path, "s.example.com/a") == []


async def test_a_helper_that_is_not_installed_is_named_with_a_way_out(tmp_path: Path) -> None:
    write(tmp_path / "config.json", credHelpers={"r.example.com": "absent"})
    with pytest.raises(CredentialsError, match="docker-credential-absent, which is not in PATH; install it, or"):
        await found(tmp_path, "r.example.com/a")
    # One that keeps all logins matters only to those registries that there was a login to.
    write(tmp_path / "config.json", credsStore="absent", auths={"r.example.com": {}})
    assert await found(tmp_path, "public.example.com/a") == []
    with pytest.raises(CredentialsError, match="docker-credential-absent"):
        await found(tmp_path, "r.example.com/a")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A helper `docker-credential-mine`."""
    helper = folder / "bin" / "docker-credential-mine"
    helper.parent.mkdir(exist_ok=True)
    helper.write_text(script)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    write(folder / "config.json", auths={"r.example.com": auth("old", "0")}, credHelpers={"r.example.com": "mine"})


TOKEN = """printf '{"Username": "<token>", "Secret": "refresh"}'"""


async def test_where_a_file_names_a_helper_its_own_entry_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, f"#!/bin/sh\n{TOKEN}\n")
    assert await found(tmp_path, "r.example.com/a") == [("", "", "refresh")]
    install(tmp_path, monkeypatch, "#!/bin/sh\necho credentials not found in native keychain; exit 1\n")
    assert await found(tmp_path, "r.example.com/a") == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\nsleep 60 & sleep 60\n", "has not answered within 0.3 s; try it: echo r.example.com | docker-cred"),
        ("#!/bin/sh\necho keychain is locked >&2; exit 3\n", "failed for r.example.com: keychain is locked"),
        ("#!/bin/sh\nexit 3\n", "failed for r.example.com: it said nothing"),
        ("#!/bin/sh\necho hello\n", "answered with something else than Username and Secret"),
        ("#!/nowhere/sh\n", "docker-credential-mine .* cannot be run: No such file"),
    ],
)
async def test_a_helper_that_hangs_or_fails_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    install(tmp_path, monkeypatch, script)
    keyring = replace(load_keyring([tmp_path], {}), helper_timeout_s=0.3 if "sleep" in script else 30.0)
    with pytest.raises(CredentialsError, match=said) as caught:
        await keyring.find(Reference.parse("r.example.com/a"))
    assert f"credHelpers of {tmp_path / 'config.json'}" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        '["hunter2"]',
        '{"auths": ["hunter2"]}',
        '{"auths": {"r.example.com": "hunter2"}}',
        '{"auths": {"r.example.com": {"auth": "hunter2"}}}',
    ],
)
async def test_a_broken_file_is_named_and_never_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CredentialsError) as caught:
        await found(tmp_path, "r.example.com/a")
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_representation(tmp_path: Path) -> None:
    from kaito.oci.credentials import Credential

    credential = Credential("here", "me", "hunter2", "hunter3")
    assert "hunter" not in f"{credential!r} {credential}"

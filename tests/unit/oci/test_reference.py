"""References: read as Docker reads them, written so that they are read the same again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.oci.digest import Digest
from kaito.oci.errors import ReferenceFormatError
from kaito.oci.reference import Reference

HEX = "0123456789abcdef" * 4
LABELS = st.from_regex(re.compile(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", re.ASCII), fullmatch=True)
HOSTS = st.one_of(st.just("localhost"), st.lists(LABELS, min_size=2, max_size=3).map(".".join))
PORTS = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
PARTS = st.from_regex(re.compile(r"[a-z0-9]{1,5}((\.|_|__|-{1,2})[a-z0-9]{1,5}){0,2}", re.ASCII), fullmatch=True)
TAGS = st.from_regex(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", re.ASCII), fullmatch=True)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("busybox", "docker.io", "library/busybox", "latest"),
        ("someone/adapter:1", "docker.io", "someone/adapter", "1"),
        ("index.docker.io/busybox", "docker.io", "library/busybox", "latest"),
        ("localhost/a:1", "localhost", "a", "1"),
        ("localhost:5000/a", "localhost:5000", "a", "latest"),
        ("r.example.com/a/b/c:v1.0", "r.example.com", "a/b/c", "v1.0"),
        ("[::1]:5000/a", "[::1]:5000", "a", "latest"),
        ("Host/a", "Host", "a", "latest"),  # a repository has no capitals, so that is a host
    ],
)
def test_what_looks_like_a_host_is_one_and_the_rest_is_docker_hubs(
    text: str, registry: str, repository: str, tag: str
) -> None:
    read = Reference.parse(text)
    assert (read.registry, read.repository, read.tag) == (registry, repository, tag)


def test_a_digest_wins_over_the_tag_and_needs_none() -> None:
    both, alone = Reference.parse(f"a/b:1@sha256:{HEX}"), Reference.parse(f"a/b@sha256:{HEX}")
    assert both.version == alone.version == f"sha256:{HEX}"
    assert (both.tag, alone.tag) == ("1", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "repository '"),
        ("Busybox", "lower case"),
        ("r.example.com/a//b", "repository 'a//b'"),
        ("a:", "the tag ''"),
        ("localhost:65536/a", "has a port above 65535"),
        ("a:b c", "the tag 'b c'"),
        ("a@sha256:12", "no digest"),
        ("a@md5:12", "no digest"),
        ("https://r.example.com/a", "is no HOST or HOST:PORT|may have"),
        ("r_x.example.com/a", "the registry 'r_x.example.com'"),
        ("a/" + "b" * 300, "255"),
    ],
)
def test_a_wrong_one_is_refused_with_the_part_at_fault_and_an_example(text: str, said: str) -> None:
    with pytest.raises(ReferenceFormatError, match=said) as caught:
        Reference.parse(text)
    assert "myregistry.azurecr.io/adapters/phi-3:0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(HOSTS, PORTS, st.lists(PARTS, min_size=1, max_size=3).map("/".join), TAGS, st.booleans())
def test_what_was_written_is_read_the_same_again(host: str, port: str, path: str, tag: str, pinned: bool) -> None:
    digest = Digest("sha256", HEX) if pinned else None
    made = Reference(f"{host}{port}", path, tag, digest)
    assert Reference.parse(str(made)) == made


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    said = ""
    try:
        assert Reference.parse(str(Reference.parse(text))) == Reference.parse(text)
    except ReferenceFormatError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize(
    ("registry", "loopback"),
    [
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("registry.localhost", True),
        ("localhost.example.com", False),
        ("10.0.0.1:5000", False),
        ("docker.io", False),
    ],
)
def test_only_registries_on_this_machine_are_talked_to_without_tls(registry: str, loopback: bool) -> None:
    assert Reference(registry, "a").is_loopback is loopback

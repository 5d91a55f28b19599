"""Hub: what it asks, whom, with which token, and what it makes of every kind of answer."""

from __future__ import annotations

import asyncio
import json

import pytest

from kaito.hub import Hub, HubError, HubToken, HubUnavailable, ModelUnusable, NoSuchModel
from kaito.hub.transport import HubAnswer
from kaito.testing.virtual_clock import run
from tests.operating.fake_hub import LLAMA, Asked, FakeHub, answer, tree

MODEL = "org/model"
TREE = "/api/models/org/model/tree/main"
CONFIG = "/org/model/resolve/main/config.json"
OWN = HubToken("hf_own", "Secret hf")


@pytest.fixture
def fake() -> FakeHub:
    made = FakeHub()
    made.has(MODEL)
    return made


def refused(fake: FakeHub, token: HubToken | None = None, hub: Hub | None = None) -> HubError:
    with pytest.raises(HubError) as error:
        run((hub or fake.hub()).resolve(MODEL, token))
    assert MODEL in str(error.value)
    assert "hf_own" not in str(error.value)
    return error.value


async def test_over_a_socket_files_and_config_make_a_model(fake: FakeHub) -> None:
    async with fake.serve() as url:
        found = await Hub(f"{url}/").resolve(MODEL)
    assert (found.weights_gib, found.kv_bytes_per_token) == (15.0, 131072)
    assert [each.path for each in fake.asked] == [f"{TREE}?recursive=true", CONFIG]


async def test_over_a_socket_what_is_too_large_is_not_read_to_its_end(fake: FakeHub) -> None:
    fake.says(CONFIG, answer(body=b" " * (9 * 2**20)))
    async with fake.serve() as url:
        with pytest.raises(ModelUnusable, match="more than 8 MiB"):
            await Hub(url).resolve(MODEL)


async def test_over_sockets_a_redirect_to_another_port_goes_without_the_token(fake: FakeHub) -> None:
    elsewhere = FakeHub()
    elsewhere.says("/config", answer(body=LLAMA))
    async with fake.serve() as url, elsewhere.serve() as other:
        fake.says(CONFIG, answer(307, location=f"{other}/config"))
        assert (await Hub(url).resolve(MODEL, OWN)).attention == "GQA"
    assert [each.authorization for each in (*fake.asked, *elsewhere.asked)] == ["Bearer hf_own", "Bearer hf_own", ""]


async def test_over_a_socket_redirects_are_counted(fake: FakeHub) -> None:
    fake.says(CONFIG, answer(307, location=CONFIG))
    async with fake.serve() as url:
        with pytest.raises(HubUnavailable, match="more than 5 times"):
            await Hub(url).resolve(MODEL)


async def test_where_nobody_listens_the_error_says_what_to_do_without_a_way_out() -> None:
    with pytest.raises(HubUnavailable, match="set HF_ENDPOINT to a hub within, or add the model to the catalogue"):
        await Hub("http://127.0.0.1:9").resolve(MODEL)


async def test_a_long_list_is_parsed_beside_the_loop(fake: FakeHub) -> None:
    fake.says(TREE, answer(body=tree(*[2**20] * 2000)))
    async with fake.serve() as url:
        assert (await Hub(url).resolve(MODEL)).weights_gib == 1.95


def test_a_list_in_pages_is_read_to_its_end(fake: FakeHub) -> None:
    more = f'<https://hub.test{TREE}?recursive=true&cursor=abc>; rel="next"'
    fake.says(TREE, answer(body=tree(2**30), link=more))
    fake.says(f"{TREE}?recursive=true&cursor", answer(body=tree(2**30, start=1)))
    assert run(fake.hub().resolve(MODEL, OWN)).weights_gib == 2.0
    assert {each.authorization for each in fake.asked} == {"Bearer hf_own"}


def test_a_list_without_an_end_is_given_up(fake: FakeHub) -> None:
    fake.says(TREE, answer(body=[], link=f'<{TREE}?cursor=again>; rel="next"'))
    assert "more than 20 pages" in str(refused(fake))
    assert len(fake.asked) == 20


def test_a_list_that_goes_on_elsewhere_is_not_followed(fake: FakeHub) -> None:
    fake.says(TREE, answer(body=[], link=f'<https://evil.test{TREE}>; rel="next"'))
    assert "another host" in str(refused(fake, OWN))
    assert {each.host for each in fake.asked} == {"hub.test"}


@pytest.mark.parametrize("away", ["https://cdn.test/config", "https://hub.test:8443/config", "//cdn.test/config"])
def test_a_redirect_to_another_host_is_followed_without_the_token(fake: FakeHub, away: str) -> None:
    fake.says(CONFIG, answer(307, location=away))
    fake.says("/config", answer(body=LLAMA))
    run(fake.hub().resolve(MODEL, OWN))
    assert [each.authorization for each in fake.asked] == ["Bearer hf_own", "Bearer hf_own", ""]


def test_a_redirect_within_the_hub_keeps_the_token(fake: FakeHub) -> None:
    fake.says(CONFIG, answer(307, location="/api/resolve-cache/config.json"))
    fake.says("/api/resolve-cache", answer(body=LLAMA))
    run(fake.hub().resolve(MODEL, OWN))
    assert fake.asked[-1] == Asked("hub.test", "/api/resolve-cache/config.json", "Bearer hf_own")


@pytest.mark.parametrize("away", ["http://hub.test/config", "http://cdn.test/config", "file:///etc/passwd"])
def test_a_redirect_to_what_is_not_encrypted_is_not_followed(fake: FakeHub, away: str) -> None:
    fake.says(CONFIG, answer(302, location=away))
    assert "is not followed" in str(refused(fake, OWN))
    assert len(fake.asked) == 2


@pytest.mark.parametrize(
    ("location", "said"), [(CONFIG, "more than 5 times"), ("https://[", "no URL"), ("", "answered 302")]
)
def test_redirects_that_lead_nowhere_are_the_hubs_fault(fake: FakeHub, location: str, said: str) -> None:
    fake.says(CONFIG, answer(302, location=location))
    error = refused(fake)
    assert isinstance(error, HubUnavailable)
    assert said in str(error)


def test_the_operators_token_lists_files_and_opens_nothing_that_the_pods_could_not(fake: FakeHub) -> None:
    operator = HubToken("hf_operator", "the operator's environment")

    def gated(asked: Asked) -> HubAnswer:
        return answer(body=LLAMA) if asked.authorization else answer(401, x_error_code="GatedRepo")

    fake.says(CONFIG, gated)
    error = refused(fake, hub=fake.hub(token=operator))
    assert "it is not open to everybody (401, GatedRepo)" in str(error)
    assert [each.authorization for each in fake.asked] == ["Bearer hf_operator", ""]
    assert run(fake.hub(token=operator).resolve(MODEL, OWN)).huggingface_id == MODEL


@pytest.mark.parametrize(
    ("reply", "token", "kind", "said"),
    [
        (answer(401), None, ModelUnusable, "name in inference.preset.presetOptions.modelAccessSecret a Secret"),
        (answer(403, x_error_code="GatedRepo"), OWN, ModelUnusable, "the token of Secret hf was refused (403"),
        (answer(401, x_error_code="RepoNotFound"), None, NoSuchModel, "no public model of https://hub.test"),
        (answer(404, x_error_code="RepoNotFound"), OWN, NoSuchModel, "that the token of Secret hf may see"),
        (answer(400), None, ModelUnusable, "answered 400"),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_next_step(
    fake: FakeHub, reply: HubAnswer, token: HubToken | None, kind: type[HubError], said: str
) -> None:
    fake.says(TREE, reply)
    error = refused(fake, token)
    assert type(error) is kind
    assert said in str(error)


@pytest.mark.parametrize(
    ("path", "reply", "said"),
    [
        (CONFIG, answer(404, x_error_code="EntryNotFound"), "has no config.json"),
        (CONFIG, answer(body=b"<html>"), "its config.json at https://hub.test is no JSON"),
        (CONFIG, answer(body=b"[" * 60_000), "no JSON (RecursionError)"),
        (CONFIG, answer(body=b'"\xff"'), "no JSON"),
        (CONFIG, answer(body=[1]), "its config.json is no object"),
        (TREE, answer(body=b"{"), "its list of files at https://hub.test is no JSON"),
        (TREE, answer(body={"error": "x"}), "has no weights"),
        (TREE, answer(body=[1, {"type": "file", "path": "a.bin", "size": "9"}]), "has no weights"),
        (TREE, answer(body=b" " * (9 * 2**20)), "more than 8 MiB"),
    ],
)
def test_what_makes_no_sense_is_told_as_such(fake: FakeHub, path: str, reply: HubAnswer, said: str) -> None:
    fake.says(path, reply)
    error = refused(fake)
    assert isinstance(error, ModelUnusable)
    assert said in str(error)


@pytest.mark.parametrize(
    ("reply", "wait_s", "said"),
    [
        (answer(429, retry_after="17"), 17.0, "asked too often (429)"),
        (answer(429, retry_after="soon"), None, "asked too often (429)"),
        (answer(503, retry_after="3"), 3.0, "answered 503"),
        (answer(500), None, "answered 500"),
    ],
)
def test_a_hub_in_trouble_says_when_to_come_back(
    fake: FakeHub, reply: HubAnswer, wait_s: float | None, said: str
) -> None:
    fake.says(TREE, reply)
    error = refused(fake)
    assert isinstance(error, HubUnavailable)
    assert error.retry_after_s == wait_s
    assert said in str(error)


@pytest.mark.parametrize(("delay_s", "after_s", "said"), [(31, 30, "within 30 s"), (29, 60, "within 60 s")])
def test_a_slow_hub_is_waited_for_half_a_minute_a_time_and_a_minute_in_all(
    fake: FakeHub, delay_s: float, after_s: float, said: str
) -> None:
    fake.delay_s = delay_s
    fake.says(TREE, answer(body=tree(1), link=f'<{TREE}?cursor=2>; rel="next"'))
    fake.says(f"{TREE}?cursor", answer(body=tree(1)))

    async def timed() -> float:
        with pytest.raises(HubUnavailable, match=said):
            await fake.hub().resolve(MODEL)
        return asyncio.get_running_loop().time()

    assert run(timed()) == after_s


@pytest.mark.parametrize(
    "endpoint", ["hub.test", "ftp://hub.test", "https://", "https://user:pass@hub.test", "https://[", "http://a:b"]
)
def test_an_endpoint_that_is_none_is_told_by_the_name_of_its_variable(fake: FakeHub, endpoint: str) -> None:
    with pytest.raises(HubUnavailable, match="HF_ENDPOINT of the operator is no URL") as error:
        run(fake.hub(endpoint).resolve(MODEL))
    assert "pass@" not in str(error.value)
    assert fake.hub(endpoint).endpoint_for_pods == ""
    assert fake.asked == []


def test_the_environment_tells_endpoint_and_token() -> None:
    assert Hub.from_environment({}).endpoint_for_pods == ""
    told = Hub.from_environment({"HF_ENDPOINT": "https://hub.test/", "HF_TOKEN": " hf_secret\n"})
    assert told.endpoint == told.endpoint_for_pods == "https://hub.test"
    assert "hf_secret" not in repr(HubToken("hf_secret", "x"))


def test_numbers_that_are_no_json_are_borne(fake: FakeHub) -> None:
    fake.says(CONFIG, answer(body=json.dumps({**LLAMA, "scale": float("nan")}).encode()))
    assert run(fake.hub().resolve(MODEL)).attention == "GQA"

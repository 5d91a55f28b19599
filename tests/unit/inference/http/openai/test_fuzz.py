"""Requests made from `/openapi.json`, good ones and bad ones: none breaks the server, and answers are as documented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.testing import tiny_model
from kaito.inference.transformers_runtime import TransformersRuntime
from tests.unit.inference.serving import serving

GOOD, BAD = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
# How many examples of each; a path has only one example, and most that is wrong with a name is no path then.
OPERATIONS = [
    ("POST", "/v1/chat/completions", GOOD, 25),
    ("POST", "/v1/chat/completions", BAD, 25),
    ("POST", "/v1/completions", GOOD, 25),
    ("POST", "/v1/completions", BAD, 25),
    ("POST", "/tokenize", GOOD, 15),
    ("POST", "/tokenize", BAD, 15),
    ("POST", "/detokenize", GOOD, 15),
    ("POST", "/detokenize", BAD, 15),
    ("GET", "/v1/models", GOOD, 1),
    ("GET", "/v1/models/{model}", GOOD, 15),
]
# A schema does not say what fits the context, or which tokens the model has.
NOT_CHECKED = [positive_data_acceptance]
EXAMPLES = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[FastAPI, str]]:
    """A server whose answers are short whatever is asked for, and its address."""
    directory: Path = tmp_path_factory.mktemp("small")
    tiny_model(directory, max_model_len=64, layers=1)
    options = ModelOptions(str(directory / "model"), served_name="base", adapters=directory / "adapters")
    limits = Limits(max_waiting=8)
    runtime = TransformersRuntime(options, EngineOptions(max_num_seqs=8), limits)
    await runtime.load()
    app = make_app(runtime, HttpSettings(limits))
    async with serving(app) as address:
        yield app, address
    await runtime.close()


@pytest.mark.parametrize(("method", "path", "mode", "count"), OPERATIONS)
async def test_an_operation_stays_within_its_schema(
    small: tuple[FastAPI, str], method: str, path: str, mode: GenerationMode, count: int
) -> None:
    app, address = small
    statuses: list[int] = []

    def run() -> None:
        operation = schemathesis.openapi.from_dict(app.openapi())[path][method]
        with requests.Session() as session:

            @settings(EXAMPLES, max_examples=count)
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case: Case) -> None:
                response = case.call_and_validate(base_url=address, session=session, excluded_checks=NOT_CHECKED)
                statuses.append(response.status_code)

            one()

    await asyncio.to_thread(run)
    assert max(statuses) < 500
    assert mode is BAD or "{" in path or 200 in statuses


async def test_it_still_answers_after_all_that(small: tuple[FastAPI, str]) -> None:
    body: Any = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    response = await asyncio.to_thread(requests.post, f"{small[1]}/v1/chat/completions", json=body, timeout=10)
    assert response.status_code == 200

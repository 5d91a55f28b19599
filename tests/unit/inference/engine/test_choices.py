"""What the engine does where no token can be chosen."""

from __future__ import annotations

import math
from pathlib import Path

from transformers import AutoModelForCausalLM

from kaito.inference.errors import BadRequest, RequestError
from kaito.inference.requests import Sampling
from tests.unit.inference.engine.driver import GREEDY, Answer, loaded_of, request_of, running


async def test_a_request_that_forbids_all_tokens_ends_and_the_others_go_on(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    async with running(loaded_of(model, tiny)) as engine:
        other = Answer(engine, request_of([5, 6, 7], 6))
        stuck = Answer(engine, request_of([5, 6, 7], 6, sampling=Sampling(temperature=0, allowed_token_ids=())))
        assert isinstance((await stuck.end()).error, BadRequest)
        assert (await other.end()).finish_reason == "length"


async def test_scores_that_are_no_numbers_end_the_request(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    model.lm_head.weight.data[3] = math.nan
    async with running(loaded_of(model, tiny)) as engine:
        error = (await Answer(engine, request_of([5, 6, 7], 6, sampling=GREEDY)).end()).error
        assert isinstance(error, RequestError)
        assert "not finite" in error.message

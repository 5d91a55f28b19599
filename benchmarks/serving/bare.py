"""The engine without HTTP, as a child: the same requests straight at the runtime, one JSON line with the figures."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict

from benchmarks.processes import say
from benchmarks.serving.load import Answer, load
from benchmarks.serving.workload import Ask, requests
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.requests import GenerationRequest, Sampling
from kaito.inference.transformers_runtime import TransformersRuntime


async def main(model: str, concurrency: int, count: int, seed: int, rounds: int) -> None:
    """Loads the model, warms up and says what each round took."""
    runtime = TransformersRuntime(ModelOptions(model), EngineOptions(max_num_seqs=max(16, concurrency)), Limits())
    await runtime.load()
    tokenizer = runtime.tokenizer()

    async def ask(one: Ask) -> Answer:
        sent = time.perf_counter()
        prompt = tokenizer.encode(tokenizer.render([{"role": "user", "content": one.text}]), add_special_tokens=False)
        request = GenerationRequest(prompt, one.max_tokens, sampling=Sampling(temperature=0.0))
        [generation] = await runtime.submit([request])
        arrivals, tokens = [], 0
        async for delta in generation:
            tokens += len(delta.tokens)
            if delta.text:
                arrivals.append(time.perf_counter())
        return Answer(sent, tuple(arrivals) or (time.perf_counter(),), tokens)

    await load(ask, requests(concurrency, seed=-1), concurrency)
    for _ in range(rounds):
        say("figures", **asdict(await load(ask, requests(count, seed), concurrency)))
    await runtime.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))

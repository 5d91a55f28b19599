"""`POST /chat`, as KAITO's own server answered it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from kaito.inference.requests import GenerationRequest, Sampling
from kaito.inference.runtime import Runtime

router = APIRouter()


@router.post("/chat")
async def chat(request: Request, body: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
    """Continues a prompt."""
    runtime: Runtime = request.app.state.runtime
    prompt = runtime.tokenizer().encode(body["prompt"])
    [generation] = await runtime.submit([GenerationRequest(prompt, 32, sampling=Sampling(temperature=0))])
    return {"Result": body["prompt"] + "".join([delta.text async for delta in generation])}

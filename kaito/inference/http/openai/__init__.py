"""OpenAI's routes, and vLLM's beside them: chat completions, completions, models, tokens."""

from fastapi import APIRouter

from kaito.inference.http.openai import chat, completions, models, tokens

__all__ = ["models", "router"]

router = APIRouter()
"""Generation and tokens. `models` has a router of its own, since every runtime has models."""

for _each in (chat, completions, tokens):
    router.include_router(_each.router)

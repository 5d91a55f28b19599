"""`GET /v1/models`: the base model and its adapters."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from kaito.inference.http.openai import documentation
from kaito.inference.http.openai.chunks import encode
from kaito.inference.http.openai.prepare import find_model, runtime_of
from kaito.inference.http.openai.responses import ModelCard, ModelList
from kaito.inference.runtime import ServedModel

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", responses=documentation.of(ModelList))
async def list_models(request: Request) -> Response:
    """Names that requests may give as `model`: the base model's, then each adapter's."""
    content: ModelList = {"object": "list", "data": [_card(each) for each in runtime_of(request).models()]}
    return Response(encode(content), media_type="application/json")


# The name of a model of the hub has a slash in it.
@router.get("/v1/models/{model:path}", responses=documentation.of(ModelCard))
async def retrieve_model(request: Request, model: str) -> Response:
    """One of them."""
    return Response(encode(_card(find_model(runtime_of(request), model))), media_type="application/json")


def _card(model: ServedModel) -> ModelCard:
    return {
        "id": model.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "kaito",
        "root": model.root,
        "parent": model.parent,
        "max_model_len": model.max_model_len,
        "strength": model.strength,
    }

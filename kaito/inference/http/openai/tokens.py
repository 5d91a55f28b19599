"""`POST /tokenize` and `POST /detokenize`, as vLLM has them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kaito.inference.http.openai import documentation
from kaito.inference.http.openai.body import BodyRoute
from kaito.inference.http.openai.chunks import encode
from kaito.inference.http.openai.prepare import check_tokens, find_model, rendered, runtime_of
from kaito.inference.http.openai.requests import DetokenizeRequest, TokenizeRequest
from kaito.inference.http.openai.responses import Detokenized, Tokenized
from kaito.inference.runtime import Tokenizer

router = APIRouter(route_class=BodyRoute, tags=["vLLM"])


@router.post("/tokenize", responses=documentation.of(Tokenized))
async def tokenize(request: Request, body: TokenizeRequest) -> Response:
    """Token ids of a prompt, or of messages as the chat template writes them."""
    runtime = runtime_of(request)
    model, tokenizer = find_model(runtime, body.model), runtime.tokenizer()
    tokens = await _tokens(body, tokenizer)
    content: Tokenized = {
        "count": len(tokens),
        "max_model_len": model.max_model_len,
        "tokens": list(tokens),
        "token_strs": [tokenizer.token_text(token) for token in tokens] if body.return_token_strs else None,
    }
    return Response(encode(content), media_type="application/json")


@router.post("/detokenize", responses=documentation.of(Detokenized))
async def detokenize(request: Request, body: DetokenizeRequest) -> Response:
    """The text of token ids, special tokens included."""
    runtime = runtime_of(request)
    model = find_model(runtime, body.model)
    check_tokens(body.tokens, model.vocab_size, "tokens")
    content: Detokenized = {"prompt": runtime.tokenizer().decode(body.tokens, skip_special_tokens=False)}
    return Response(encode(content), media_type="application/json")


async def _tokens(body: TokenizeRequest, tokenizer: Tokenizer) -> tuple[int, ...]:
    if body.messages is None:
        return await tokenizer.encode_async(body.prompt or "", add_special_tokens=body.add_special_tokens is not False)
    text = tokenizer.render(
        rendered(body.messages),
        add_generation_prompt=body.add_generation_prompt is not False,
        continue_final_message=bool(body.continue_final_message),
        template_kwargs=body.chat_template_kwargs,
    )
    return await tokenizer.encode_async(text, add_special_tokens=bool(body.add_special_tokens))

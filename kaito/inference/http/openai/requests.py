"""Bodies of the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator
from pydantic_core import PydanticCustomError

from kaito.inference.http.openai.body import KIND, Fields, Off
from kaito.inference.http.openai.fields import EVERYWHERE_OFF, Count, GenerationFields, Integer, Message, Name, TokenId

_Messages = Annotated[list[Message], Field(min_length=1)]


class _Rendered(Fields):
    """How messages become a prompt."""

    add_generation_prompt: bool | None = Field(None, description="True if not given: the answer is a new message.")
    continue_final_message: bool | None = Field(None, description="The answer continues the last message.")
    add_special_tokens: bool | None = Field(None, description="False if not given: the template writes them.")
    chat_template_kwargs: dict[str, JsonValue] | None = Field(None, description="Variables of the chat template.")

    @model_validator(mode="after")
    def _rendering_is_possible(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt is not False:
            raise PydanticCustomError(
                "combination",
                "a message is continued or a new one begun: give add_generation_prompt as false with it",
                {"field": "continue_final_message"},
            )
        return self


class ChatCompletionRequest(GenerationFields, _Rendered):
    """Body of `POST /v1/chat/completions`."""

    off: ClassVar[Off] = {
        **EVERYWHERE_OFF,
        "tools": (None, []),
        "tool_choice": (None, "none"),
        "parallel_tool_calls": (None, True, False),
        "functions": (None, []),
        "function_call": (None, "none"),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "prediction": (None,),
        "reasoning_effort": (None, "none"),
        "verbosity": (None,),
        "web_search_options": (None,),
        "documents": (None, []),
        "chat_template": (None,),
        "include_reasoning": (None, True),
        "mm_processor_kwargs": (None,),
    }

    messages: _Messages
    max_completion_tokens: Count | None = Field(
        None, description="With the prompt within the model's context; all that is left of it if not given."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[Integer, Field(ge=0, le=20)] | None = None
    metadata: dict[str, str] | None = Field(None, description="For your own records; nothing is done with it.")
    safety_identifier: str | None = Field(None, description="For your own records; nothing is done with it.")
    prompt_cache_key: str | None = Field(
        None, description="A hint for caches that are shared; nothing is done with it."
    )

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("combination", "needs logprobs to be true", {"field": "top_logprobs"})
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise PydanticCustomError(
                "combination",
                "max_completion_tokens is its newer name, and has another value; give one of them",
                {"field": "max_tokens"},
            )
        return self


def _kind_of_prompt(value: Any) -> str | None:
    if isinstance(value, str):
        return f"{KIND}string"
    if not isinstance(value, list):
        return None
    match value[0] if value else "":
        case str():
            return f"{KIND}strings"
        case bool():
            return None
        case int():
            return f"{KIND}tokens"
        case list():
            return f"{KIND}token lists"
        case _:
            return None


_Tokens = Annotated[list[TokenId], Field(min_length=1)]
_LARGEST_BATCH = 256
Prompt = Annotated[
    Annotated[str, Tag(f"{KIND}string")]
    | Annotated[list[str], Field(min_length=1, max_length=_LARGEST_BATCH), Tag(f"{KIND}strings")]
    | Annotated[_Tokens, Tag(f"{KIND}tokens")]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=_LARGEST_BATCH), Tag(f"{KIND}token lists")],
    Discriminator(
        _kind_of_prompt,
        custom_error_type="prompt",
        custom_error_message="must be a string, a list of strings, a list of token ids, or a list of such lists",
    ),
]


class CompletionRequest(GenerationFields):
    """Body of `POST /v1/completions`."""

    off: ClassVar[Off] = {
        **{name: values for name, values in EVERYWHERE_OFF.items() if name != "best_of"},
        "suffix": (None, ""),
        "prompt_embeds": (None,),
    }

    prompt: Prompt
    add_special_tokens: bool | None = Field(None, description="True if not given.")
    best_of: Count | None = Field(None, description="Equal to n, if given.")
    logprobs: Annotated[Integer, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise PydanticCustomError(
                "combination", "not supported unless it equals n: all answers are returned", {"field": "best_of"}
            )
        if self.echo and self.logprobs is not None:
            raise PydanticCustomError(
                "combination",
                "not supported together with logprobs, which there are none of for the prompt; leave one of them out",
                {"field": "echo"},
            )
        return self


class TokenizeRequest(_Rendered):
    """Body of `POST /tokenize`: a prompt, or messages."""

    off: ClassVar[Off] = {"tools": (None, []), "chat_template": (None,), "mm_processor_kwargs": (None,)}
    schema_extra: ClassVar[Mapping[str, Any]] = {"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}

    model: Name | None = None
    prompt: str | None = None
    messages: _Messages | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("combination", "give either prompt or messages", {"field": "prompt"})
        return self


class DetokenizeRequest(Fields):
    """Body of `POST /detokenize`."""

    model: Name | None = None
    tokens: list[TokenId]

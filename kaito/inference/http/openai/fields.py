"""Fields that requests of several routes share, with their ranges."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from kaito.inference.http.openai.body import KIND, Fields, Off

_LARGEST_COUNT = 2**31 - 1
_LARGEST_TOKEN = 2**31 - 1


def _whole(value: object) -> object:
    # JSON knows one kind of numbers: 5.0 is an integer to a schema, and some languages write it so.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Integer, Field(ge=1, le=_LARGEST_COUNT)]
TokenId = Annotated[int, Field(ge=0, le=_LARGEST_TOKEN)]
Name = Annotated[str, Field(min_length=1, max_length=512)]


def _one_or_many(value: Any) -> str | None:
    return f"{KIND}string" if isinstance(value, str) else f"{KIND}list" if isinstance(value, list) else None


_StopString = Annotated[str, Field(min_length=1)]
Stop = Annotated[
    Annotated[_StopString, Tag(f"{KIND}string")]
    | Annotated[list[_StopString], Field(max_length=64), Tag(f"{KIND}list")],
    Discriminator(_one_or_many, custom_error_type="stop", custom_error_message="must be a string or a list of strings"),
]

_NULL: tuple[object, ...] = (None,)
_FALSE: tuple[object, ...] = (None, False)
_EMPTY: tuple[object, ...] = (None, [])

EVERYWHERE_OFF: Off = {
    "store": _FALSE,
    "service_tier": (None, "auto", "default"),
    "response_format": (None, {"type": "text"}),
    "structured_outputs": _NULL,
    "guided_json": _NULL,
    "guided_regex": _NULL,
    "guided_choice": _NULL,
    "guided_grammar": _NULL,
    "use_beam_search": _FALSE,
    "length_penalty": (None, 1.0, 1),
    "early_stopping": _FALSE,
    "best_of": (None, 1),
    "bad_words": _EMPTY,
    "prompt_logprobs": _NULL,
    "truncate_prompt_tokens": _NULL,
    "spaces_between_special_tokens": (None, True),
    "return_tokens_as_token_ids": _FALSE,
    "return_token_ids": _FALSE,
    "priority": (None, 0),
    "cache_salt": _NULL,
    "kv_transfer_params": _NULL,
    "moderation": _NULL,
}
"""Fields of OpenAI's and vLLM's requests that are not honoured, with the values that ask for nothing."""


class AdapterStrength(Fields):
    """An adapter and what it counts."""

    name: Name
    # Of any sign and size that does something; far beyond, the model's numbers overflow.
    strength: Annotated[float, Field(ge=-1000, le=1000)] | None = Field(
        None, description="1 is what the adapter was trained for; what the server was started with if not given."
    )


class StreamOptions(Fields):
    """What a stream has beside the answer."""

    off: ClassVar[Off] = {"include_obfuscation": _FALSE}

    include_usage: bool | None = Field(None, description="A last chunk with the number of tokens.")
    continuous_usage_stats: bool | None = Field(None, description="The number so far in each chunk, too.")

    @model_validator(mode="after")
    def _usage_is_included(self) -> Self:
        if self.continuous_usage_stats and not self.include_usage:
            raise PydanticCustomError(
                "combination", "needs include_usage to be true", {"field": "continuous_usage_stats"}
            )
        return self


class GenerationFields(Fields):
    """What chat completions and completions both take. Where none is given, the model's own default holds."""

    model: Name | None = Field(None, description="The base model's name or an adapter's; the base model if not given.")
    lora: Annotated[list[AdapterStrength], Field(max_length=64)] | None = Field(
        None, description="Adapters with their strengths, instead of what the model's name says; none if empty."
    )
    max_tokens: Count | None = None
    min_tokens: Annotated[Integer, Field(ge=0, le=_LARGEST_COUNT)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Integer, Field(ge=-1, le=_LARGEST_COUNT)] | None = Field(None, description="0 and -1: all.")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = Field(
        None,
        description="Added to logits, by token id.",
        json_schema_extra={"propertyNames": {"pattern": r"^[0-9]{1,9}$"}},
    )
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1)] | None = None
    seed: Annotated[Integer, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[Integer, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1024)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="For your own records; nothing is done with it.")

    @model_validator(mode="after")
    def _options_are_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("combination", "needs stream to be true", {"field": "stream_options"})
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class TextPart(Fields):
    """A part of a message."""

    type: Literal["text"]
    text: str


Content = Annotated[
    Annotated[str, Tag(f"{KIND}string")] | Annotated[list[TextPart], Field(min_length=1), Tag(f"{KIND}list")],
    Discriminator(
        _one_or_many, custom_error_type="content", custom_error_message="must be a string or a list of text parts"
    ),
]


class Message(Fields):
    """One message of a conversation. Parts of a content are joined with line ends, as vLLM does it."""

    off: ClassVar[Off] = {
        "refusal": _NULL,
        "annotations": _EMPTY,
        "audio": _NULL,
        "function_call": _NULL,
        "tool_calls": _EMPTY,
        "tool_call_id": _NULL,
        "reasoning": _NULL,
        "reasoning_content": _NULL,
    }

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="developer is OpenAI's newer name of system, and means the same."
    )
    content: Content
    name: str | None = None

    @property
    def text(self) -> str:
        """The content in one piece."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)

"""What a client of /chat may send: prompt or messages, and keywords of generation, nested or flat."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

_INT64 = 2**63

Seed = Annotated[int, Field(ge=-_INT64, lt=_INT64)]


class GenerateKwargs(BaseModel):
    """Keywords of transformers' `generate`; others than these are passed on to it as they are."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    max_length: int | None = Field(200, description="Tokens of prompt and answer together.")
    min_length: int | None = Field(0, description="The same; no end before.")
    max_new_tokens: int | None = Field(None, description="Tokens of the answer; goes before max_length.")
    min_new_tokens: int | None = None
    do_sample: bool | None = Field(True, description="False: always the likeliest token.")
    early_stopping: bool | str | None = False
    num_beams: int | None = 1
    temperature: float | None = 1.0
    top_k: int | None = 10
    top_p: float | None = 1.0
    typical_p: float | None = 1.0
    min_p: float | None = None
    repetition_penalty: float | None = 1.0
    no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    num_return_sequences: int | None = Field(None, description="So many answers, which come one after the other.")
    pad_token_id: int | None = None
    eos_token_id: int | list[int] | None = Field(None, description="Instead of the model's own end tokens.")
    stop_strings: str | list[str] | None = Field(None, description="Each ends the answer, of which it is the end.")
    stop_sequence: str | list[str] | None = Field(None, description="Another name of the same.")
    skip_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    seed: Seed | None = Field(None, description="Of this request's draws.")


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str


class Strength(BaseModel):
    """An adapter and how much it counts."""

    name: str
    strength: float | None = Field(None, allow_inf_nan=False, description="None: its strength from the start.")


class ChatRequest(GenerateKwargs):
    """A body. Its keywords of generation may stand in `generate_kwargs`, or beside `prompt` as in version 0.1.

    Fields that are not known here are ignored, as they always were.
    """

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        json_schema_extra={"example": {"prompt": "What is KAITO?", "generate_kwargs": {"max_length": 100}}},
    )

    prompt: str | None = Field(None, description="Text to be continued.")
    messages: list[Message] | None = Field(None, description="A conversation to be continued, if there is no prompt.")
    return_full_text: bool | None = Field(True, description="Whether the answer starts with the prompt.")
    clean_up_tokenization_spaces: bool | None = Field(
        False, description="Without effect, as in transformers for every tokenizer that a chat model has."
    )
    prefix: str | None = Field(None, description="Goes before the prompt, and does not come back.")
    handle_long_generation: str | None = Field(None, description="hole: cuts the start of a prompt that is too long.")
    generate_kwargs: GenerateKwargs | None = None
    stream: bool = Field(False, description="Server-sent events instead of one answer.")
    lora: list[Strength] | None = Field(
        None, description="Adapters of this request; [] is none. Not given: all, at their strengths from the start."
    )

    def keywords(self) -> dict[str, Any]:
        """Keywords of generation: what the body says, else the defaults of the first KAITO."""
        fields = GenerateKwargs.model_fields
        defaults = {name: field.default for name, field in fields.items() if field.default is not None}
        flat = {name: getattr(self, name) for name in fields if name in self.model_fields_set}
        nested = self.generate_kwargs.model_dump(exclude_unset=True) if self.generate_kwargs else {}
        given = flat | nested
        if (stop := given.pop("stop_sequence", None)) is not None:
            given["stop_strings"] = stop
        return defaults | given

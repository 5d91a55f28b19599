"""What all catalogue entries have in common: frozen, and nothing unknown is let through."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

GiB = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A size in GiB (2**30 bytes), above zero."""

Count = Annotated[int, Field(gt=0)]
"""A number of things, at least one."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]
"""A name as users type it: no spaces."""


class Figures(BaseModel):
    """Some figures of an entry; a field that it does not know is an error, since it is most likely a typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(Figures):
    """One entry of a catalogue file."""

    name: Name
    source: Annotated[tuple[str, ...], Field(min_length=1)]
    """Where the figures are from."""

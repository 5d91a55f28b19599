"""Why a model cannot be served or tuned as asked.

ValueError
  SizingError    a model cannot be served or tuned as asked
    DoesNotFit   the GPU memory is too small
    CannotRun    the model, the GPUs and what is asked of them do not go together, whatever their memory
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaito.sizing.budget import Part


class SizingError(ValueError):
    """A model cannot be served as asked. `suggestions` are types of the same cloud that can, smallest first."""

    def __init__(self, message: str, suggestions: tuple[str, ...] = ()) -> None:
        self.suggestions = suggestions
        super().__init__(message)


class DoesNotFit(SizingError):
    """The GPU memory is too small. `needed_gib`, made of `parts`, and `available_gib` are for one node."""

    def __init__(
        self,
        message: str,
        needed_gib: float,
        available_gib: float,
        suggestions: tuple[str, ...],
        parts: tuple[Part, ...],
    ) -> None:
        self.needed_gib = needed_gib
        self.available_gib = available_gib
        self.parts = parts
        super().__init__(message, suggestions)


class CannotRun(SizingError):
    """No runtime of the model works on these GPUs, or not with such a context, or it cannot be tuned so."""

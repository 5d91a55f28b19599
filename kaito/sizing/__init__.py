"""Sizing: how many nodes of an instance type serve a model, whether one fine-tunes it, and what to choose when not.

All pure: equal arguments give equal answers; nothing is read but the built-in catalogue, for suggestions. The formulas,
with the source of each constant and worked examples: docs/sizing.md.
"""

from kaito.sizing.budget import Part
from kaito.sizing.errors import CannotRun, DoesNotFit, SizingError
from kaito.sizing.serving import Sizing, default_context_tokens, fits, fitting, size, usable_runtimes
from kaito.sizing.tuning import TuningSizing, size_tuning

__all__ = [
    "CannotRun",
    "DoesNotFit",
    "Part",
    "Sizing",
    "SizingError",
    "TuningSizing",
    "default_context_tokens",
    "fits",
    "fitting",
    "size",
    "size_tuning",
    "usable_runtimes",
]

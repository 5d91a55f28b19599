"""What the quickstart may fail with."""

from __future__ import annotations


class QuickstartError(Exception):
    """A step of the quickstart failed; the text says which, why, and what to do next."""


class ProgramEnded(QuickstartError):
    """A program that the quickstart had started ended unasked; there is nothing left to look at."""

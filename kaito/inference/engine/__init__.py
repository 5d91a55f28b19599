"""Continues many token sequences on one model at once. It knows tokens and slots, no text and no protocol."""

from kaito.inference.engine.engine import Engine, Ticket
from kaito.inference.engine.tokens import TokenRequest, Update

__all__ = ["Engine", "Ticket", "TokenRequest", "Update"]

"""Continues many token sequences on one model at once. It knows tokens and slots, no text and no protocol."""

from kaito.inference.engine.accounts import EngineStats
from kaito.inference.engine.engine import Engine, Turn
from kaito.inference.engine.ticket import Sink, Ticket
from kaito.inference.engine.tokens import TokenRequest, Update

__all__ = ["Engine", "EngineStats", "Sink", "Ticket", "TokenRequest", "Turn", "Update"]

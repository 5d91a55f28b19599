"""What a hub may fail with.

HubError               a model cannot be told by what the hub says
├── HubUnavailable     the hub did not answer as it should; it may the next time
└── ModelUnusable      it did: this model cannot be served
    └── NoSuchModel    there is none of that name, as far as the asker may see
"""

from __future__ import annotations


class HubError(Exception):
    """A model cannot be told by what the hub says; the text names the model, the cause and the next step."""


class HubUnavailable(HubError):
    """The hub did not answer as it should.

    Attributes:
        retry_after_s: when to ask again, in seconds, as the hub wants it; None: it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelUnusable(HubError):
    """The hub knows the model, and it cannot be served."""


class NoSuchModel(ModelUnusable):
    """The hub has no model of that name, as far as the asker may see."""

"""What the routes need to know beside the runtime."""

from __future__ import annotations

from dataclasses import dataclass, field

from kaito.inference.metrics import Metrics
from kaito.inference.options import Limits


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Settings of the HTTP side.

    Attributes:
        limits: of bodies and times.
        api_keys: any of which opens every path but health; none: all is open.
        metrics: what is measured, for `/metrics`.
    """

    limits: Limits = field(default_factory=Limits)
    api_keys: frozenset[str] = field(default=frozenset(), repr=False)
    metrics: Metrics = field(default_factory=Metrics)

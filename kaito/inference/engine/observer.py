"""Where the engine finds its `Observer`; it is defined where it can be imported without torch."""

from kaito.inference.observer import Ended, Load, Observer, Unobserved

__all__ = ["Ended", "Load", "Observer", "Unobserved"]

"""LoRA adapters, each row of a batch with strengths of its own, exact for any number of them."""

from kaito.inference.lora.adapters import Adapter, Adapters

__all__ = ["Adapter", "Adapters"]

"""Chooses the next token of each row from the model's logits, each request by its own rules."""

from kaito.inference.sampling.sampler import Chosen, Sampler

__all__ = ["Chosen", "Sampler"]

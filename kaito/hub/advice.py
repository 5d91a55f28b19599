"""Advice: the next steps that a hub's errors end with, which depend on where the asker is."""

from __future__ import annotations

from dataclasses import dataclass

SECRET_FIELD = "inference.preset.presetOptions.modelAccessSecret"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do; by default as in a cluster.

    Attributes:
        access: how to come to a model that is not open to everybody.
        way_out: what to do where the hub cannot be reached; empty: that is said elsewhere.
    """

    access: str = f"name in {SECRET_FIELD} a Secret whose key HF_TOKEN is the token of an account that has access to it"
    way_out: str = (
        "without a way out of the cluster, set HF_ENDPOINT to a hub within, or add the model to the catalogue"
    )


IN_A_CLUSTER = Advice()

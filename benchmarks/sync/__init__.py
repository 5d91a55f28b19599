"""Syncing custom resources and reconciling each once: how fast, in how much memory (targets P1, P2, P3, P7)."""

"""KAITO in Python: a controller-runtime, and an operator of GPU workspaces built on it."""

__version__ = "0.1.0"

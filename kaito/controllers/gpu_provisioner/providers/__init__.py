"""Providers: the clouds that can be asked for nodes."""

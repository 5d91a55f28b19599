"""Serving: our server beside `transformers serve`, and beside its own engine without HTTP."""

"""The cloud's side: the provider protocol, providers, and what no single claim sees."""

"""Benchmarks: one runnable module per figure that we promise, each beside what it is measured against."""

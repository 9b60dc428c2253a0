"""Benchmarks: one script per question, each runnable alone."""

"""Passes that bring a model into one plain form, without changing what it computes."""

"""Compile deep-learning models under an energy budget."""

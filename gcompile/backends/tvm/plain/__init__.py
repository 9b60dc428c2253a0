"""Rare operators as plain loops over their elements: right first, fast where that is easy."""

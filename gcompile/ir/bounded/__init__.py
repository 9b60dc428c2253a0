"""Sizes that only the data decides: buffers of the largest size, and counts of what is in them."""

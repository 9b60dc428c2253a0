"""Passes that decide how kernels are cut into pieces that fit registers and caches."""

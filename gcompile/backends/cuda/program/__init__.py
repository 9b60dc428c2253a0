"""Tile programs: one description that is printed as CUDA and executed by an interpreter."""

"""Checks, timings and joules on an NVIDIA GPU.

`bare` holds what runs on any machine with Python, numpy and a driver; the rest makes the archive
that takes it there, and needs the compiler.
"""

"""Machine code for NVIDIA GPUs, made and checked on machines that have none."""

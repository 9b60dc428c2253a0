"""What runs on a machine with Python, numpy and an NVIDIA driver: nothing of the compiler."""

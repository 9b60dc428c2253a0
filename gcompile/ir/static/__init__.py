"""What is known before a model runs: branches, loops and sequences are written out as tensors."""

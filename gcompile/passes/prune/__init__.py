"""Remove channels, heads and weights that the outputs hardly need."""

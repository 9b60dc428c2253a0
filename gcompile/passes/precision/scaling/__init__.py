"""Move scales of channels from where values are made to the products that read them."""

"""What labels beside the calibration rows make possible without training."""

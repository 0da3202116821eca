"""Training: one loop for every model family, on Lightning."""

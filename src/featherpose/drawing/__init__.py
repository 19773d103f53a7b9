"""Draw poses into images."""

"""Cleaning and filters of poses over time, and the arithmetic of curves that they stand on."""

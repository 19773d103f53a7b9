"""Export of trained networks to files for inference engines."""

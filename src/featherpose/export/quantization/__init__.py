"""INT8 post-training quantization."""

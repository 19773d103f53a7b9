"""Inference engines behind one protocol; each engine is imported only in its own module."""

"""Measuring: COCO AP, timings, and the slow reference implementations that fast code is held to."""

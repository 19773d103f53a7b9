"""Measurement: COCO AP, timings, and the slow reference implementations of fast code."""

"""Accuracy of tracking."""

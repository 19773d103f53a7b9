"""Accuracy of keypoints."""

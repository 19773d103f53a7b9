"""Boxes of people: detectors, their loss and targets, and networks that answer boxes with keypoints."""

"""Accuracy of motion analysis: people whose motion is known exactly, and the noise of our networks."""

"""One person at a time: boxes to crops, a single-person network on each, and one pose a person."""

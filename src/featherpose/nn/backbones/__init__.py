"""Feature extractors of the pose networks, each cut and dilated to output stride 8."""

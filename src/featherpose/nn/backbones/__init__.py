"""Feature extractors that the pose networks stand on, each cut and dilated to output stride 8."""

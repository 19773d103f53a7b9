"""Poses in files: JSON Lines, COCO results, OpenPose JSON, CSV, Parquet."""

"""Part affinity fields (OpenPose, Lightweight OpenPose)."""

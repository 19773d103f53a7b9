"""Keypoints to maps and back: the algorithms, on numpy arrays with compiled kernels, free of engines and pictures."""

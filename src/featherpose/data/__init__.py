"""Training data: annotation readers, augmentation, datasets."""

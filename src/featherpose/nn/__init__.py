"""PyTorch networks: backbones, stages, assembled networks, checkpoints."""

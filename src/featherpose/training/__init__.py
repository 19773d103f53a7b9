"""Training: configuration, losses, distillation, the loop."""

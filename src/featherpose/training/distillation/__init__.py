"""Distillation from a teacher: its outputs and its inner features."""

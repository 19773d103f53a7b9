"""Heads that are hidden: where they are, and how they are covered."""

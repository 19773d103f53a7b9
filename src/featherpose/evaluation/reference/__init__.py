"""Plain, slow reference implementations."""

"""The commands under ``featherpose analyze``, one module each."""

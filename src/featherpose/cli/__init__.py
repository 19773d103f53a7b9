"""The command line: one thin file a command; the only part that prints messages for users."""

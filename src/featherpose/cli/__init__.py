"""The command line: one thin file a command; the only part that talks to people."""

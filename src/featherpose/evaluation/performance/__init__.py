"""Time, complexity and the limits of the machine."""

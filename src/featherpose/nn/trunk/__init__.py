"""Light forms of the slides' systems: one pose-trained trunk, and one head a module."""

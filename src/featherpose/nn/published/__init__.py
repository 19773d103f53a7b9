"""The slides' systems in the size of their papers: one network a module."""

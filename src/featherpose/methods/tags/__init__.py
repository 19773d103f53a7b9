"""Tags: the method of Associative Embedding."""

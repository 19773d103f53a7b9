"""Equal ranges of the channels of trained networks, so that 8 bits hold them."""

"""Transfer of movement: retargeting, puppets from one picture, and a generator trained on one video."""

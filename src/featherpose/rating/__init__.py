"""How good a pose is, judged by itself: the accuracy that a small network expects of each person."""

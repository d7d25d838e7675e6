"""Object patches predicted by a trained network, and learned refinement of a whole scan."""

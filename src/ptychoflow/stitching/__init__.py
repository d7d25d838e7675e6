"""Object patches joined to one object: phase synchronisation, weights, canvas."""

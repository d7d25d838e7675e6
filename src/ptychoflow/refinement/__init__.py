"""Iterative refinement by rPIE: the engine, its epochs, position correction, resuming, uncertainty."""

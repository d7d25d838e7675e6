"""Measurements of other programs as scans: recognised, read with care, in photons and object pixels."""

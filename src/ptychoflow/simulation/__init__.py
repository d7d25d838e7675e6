"""Simulated scans: objects, probes, scan paths, and a detector that counts photons."""

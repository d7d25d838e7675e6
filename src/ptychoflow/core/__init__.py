"""Domain types, the scan and the reconstruction, with their invariants; no files, no settings."""

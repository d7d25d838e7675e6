"""Ptychography as a workflow: the library under the rules."""

__version__ = "0.1.0"

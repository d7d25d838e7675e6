"""Translations between this library and other programs: their settings, names and folders."""

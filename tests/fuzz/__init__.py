"""Fuzz of everything that the commands read: our own products and files of other programs, damaged and forged."""

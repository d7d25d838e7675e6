"""The names that ptychodus imports from ``ptycho_torch.api``."""

"""The engine of ptychodus's PtychoPINN backend, and the start of ptychodus with it."""

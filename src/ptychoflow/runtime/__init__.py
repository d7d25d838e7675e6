"""The machine that a step runs on: GPUs, process group, progress bars, timing. It changes no result."""

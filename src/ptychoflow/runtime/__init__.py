"""Where a step runs: GPUs, process group, progress bars, timing. It changes no result."""

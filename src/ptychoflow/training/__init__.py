"""Training of networks by Lightning: losses, schedule, callbacks, checkpoints."""

"""The physics of a scan, batched and differentiable: propagation, forward model, object and probe updates."""

"""Updates of the refinement as C kernels, compiled at first use, with a torch implementation of each."""

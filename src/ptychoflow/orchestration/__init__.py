"""What the Snakefile asks of the library: resources of a step, stale products, benchmark records."""

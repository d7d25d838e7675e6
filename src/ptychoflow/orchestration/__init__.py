"""Services for the Snakefile: resources of a step, stale products, benchmark records."""

"""One module, one command, one rule of the workflow: reads files, calls the library, writes one product."""

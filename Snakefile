"""Run the workflow from the root of a checkout: `snakemake --cores all`."""


include: "workflow/Snakefile"

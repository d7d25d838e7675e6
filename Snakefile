"""Run the workflow from the root of a checkout: `snakemake --cores all`."""


include: "workflow/Snakefile"


rule default:
    """Make what `all` makes: `include` takes no default target along."""
    default_target: True
    input:
        rules.all.input,

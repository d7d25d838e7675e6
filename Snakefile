"""Run the workflow from the root of a checkout: `snakemake --cores all`."""


include: "workflow/Snakefile"


workflow.default_target = rules.all.rule.name  # `include` takes no default target along

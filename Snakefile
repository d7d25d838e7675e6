"""Simulate or read scans, train networks on some of them, reconstruct others, refine, evaluate, report."""

import os
import sys
from pathlib import Path

import ptychoflow
from ptychoflow.config import ConfigError, load_config
from ptychoflow.needs import srun
from ptychoflow.origins import cache_of_this_code, other_code
from ptychoflow.sweeps import plan
from snakemake.utils import min_version

min_version("9.0")

if "scans" not in config:  # --configfile was not given; the two would be merged

    configfile: "config/config.yaml"


try:
    CONFIG = plan(load_config(config))
except ConfigError as error:
    sys.exit(f"ptychoflow: {error}")


# Steps run the library that checked the config, with the Python that runs Snakemake unless an environment of their own
# brings another, in which pip installs the versions that `make run` has. What changes no result reaches them through the
# environment too, and so triggers no rerun.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    PIP_CONSTRAINT=workflow.source_path("envs/constraints.txt"),
    PTYCHOFLOW_LIBRARY=str(Path(ptychoflow.__file__).parents[1]),
    PTYCHOFLOW_RUNTIME=CONFIG.runtime.model_dump_json(),
    PTYCHOFLOW_TRACKING=CONFIG.tracking.model_dump_json(),
    PTYCHOFLOW_LAUNCH=srun(CONFIG.runtime),
    PTYCHOFLOW_TERMINAL=os.ttyname(2) if os.isatty(2) else "",
)
shell.prefix('set -euo pipefail; export PYTHONPATH="$PTYCHOFLOW_LIBRARY"; ')  # --sdm conda drops one that is set before

# other code shares nothing through Snakemake's cache, whose keys are made of settings and inputs only
if cache := os.environ.get("SNAKEMAKE_OUTPUT_CACHE"):
    os.environ.update(SNAKEMAKE_OUTPUT_CACHE=cache_of_this_code(cache))


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/scans.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/reconstructions.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/export.smk"


rule all:
    """Everything the config asks for, on one page."""
    default_target: True
    input:
        page="results/report.html",
        table="results/metrics.csv",
        exports=[*exports()],


if workflow.is_main_process:
    for line in other_code(Path("results")):
        logger.warning(f"ptychoflow: {line}")


onsuccess:
    print("ptychoflow: done" + ("; the report is results/report.html" if Path("results/report.html").is_file() else ""))


onerror:
    print(*(f"ptychoflow: a step failed; {words}" for words in last_words(log)), sep="\n")

"""Evaluation of reconstructions: results/metrics/{method}/{scan}.json, results/sweeps/, results/report.html."""


rule evaluate:
    """Compute metrics of reconstructions against the ground truth, the counts and each other."""
    input:
        dataset="results/datasets/{scan}",
        refined="results/refined/{method}/{scan}.h5",
        stitched=stitched,
        halves=refined_halves,
        stitched_halves=stitched_halves,
    output:
        metrics="results/metrics/{method}/{scan}.json",
        figures=report(
            directory("results/metrics/{method}/{scan}"),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="{scan}",
            labels={"method": "{method}", "figure": "{figure}"},
        ),
    log:
        "results/logs/evaluate/{method}/{scan}.log",
    benchmark:
        "results/benchmarks/evaluate/{method}/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(CONFIG.scans),
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("evaluate"),
        runtime=time("evaluate"),
    params:
        config=settings("evaluate"),
        stitched=option("stitched"),
        halves=option("halves"),
        stitched_halves=option("stitched_halves"),
    shell:
        "python -m ptychoflow evaluate --refined {input.refined:q} {params.stitched:q} {params.halves:q}"
        " {params.stitched_halves:q} --config {params.config:q} -- {input.dataset:q} {output.metrics:q} > {log:q} 2>&1"


rule sweep:
    """Draw metrics over the settings of a sweep, mean and standard deviation over seeds, as a figure and a table."""
    input:
        metrics=metrics_of_sweep,
    output:
        table="results/sweeps/{sweep}.csv",
        figure=report("results/sweeps/{sweep}.png", caption="../report/sweep.rst", category="Sweeps"),
    log:
        "results/logs/sweep/{sweep}.log",
    benchmark:
        "results/benchmarks/sweep/{sweep}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("sweep"),
        runtime=time("sweep"),
    params:
        combinations=combinations,
    shell:
        "python -m ptychoflow sweep --combinations {params.combinations:q} --figure {output.figure:q}"
        " -- {output.table:q} {input.metrics:q} > {log:q} 2>&1"


rule paper:
    """Make the figure and the table of every sweep, and the report that collects them."""
    input:
        page="results/report.html",
        tables=[f"results/sweeps/{sweep}.csv" for sweep in CONFIG.combinations],
        figures=[f"results/sweeps/{sweep}.png" for sweep in CONFIG.combinations],


rule report:
    """Write pictures, metrics and timings to one page."""
    input:
        metrics=[f"results/metrics/{method}/{scan}.json" for method, scan in CONFIG.reconstructions()],
        networks=[f"results/networks/{method}.json" for method in CONFIG.trainings()],
        sweeps=[f"results/sweeps/{sweep}.csv" for sweep in CONFIG.combinations],
    output:
        page=report("results/report.html", caption="../report/page.rst", category="Report"),
        table=report("results/metrics.csv", caption="../report/table.rst", category="Report"),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("report"),
        runtime=time("report"),
    params:
        title=CONFIG.title,
    shell:
        "python -m ptychoflow report --networks {input.networks:q} --sweeps {input.sweeps:q} --csv {output.table:q}"
        " --title={params.title:q} -- {output.page:q} {input.metrics:q} > {log:q} 2>&1"

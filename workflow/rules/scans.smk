"""Scans and datasets, simulated or measured: results/scans/{scan}.cxi, results/datasets/{scan}/.

On request, the contents of a measured file and the orientation of its scan: results/inspections/{scan}/.

Simulated scans and datasets may be shared between working directories: SNAKEMAKE_OUTPUT_CACHE=FOLDER snakemake --cache.
Snakemake does not benchmark rules with `cache`; their commands write the benchmark themselves.
"""


rule simulate:
    """Simulate a scan: object, probe, positions and the counts of a detector."""
    input:
        probe=probe_source,
        files=files_named,
    output:
        scan="results/scans/{scan}.cxi",
    log:
        "results/logs/simulate/{scan}.log",
    wildcard_constraints:
        scan=one_of(SIMULATED),
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("simulate"),
        runtime=time("simulate"),
    params:
        config=settings("simulate"),
        probe=option("probe"),
    shell:
        "python -m ptychoflow simulate {params.probe:q} --config {params.config:q}"
        " --benchmark results/benchmarks/simulate/{wildcards.scan:q}.tsv -- {output.scan:q} > {log:q} 2>&1"


rule convert:
    """Read a measured scan, after a download where needed."""
    input:
        probe=probe_source,
        files=files_named,
    output:
        scan="results/scans/{scan}.cxi",
    log:
        "results/logs/convert/{scan}.log",
    benchmark:
        "results/benchmarks/convert/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(MEASURED),
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("convert"),
        runtime=time("convert"),
    params:
        config=settings("convert"),
        probe=option("probe"),
        local_copies=local_copies,
    shell:
        "python -m ptychoflow convert {params.probe:q} {params.local_copies:q} --config {params.config:q}"
        " -- {output.scan:q} > {log:q} 2>&1"


rule inspect:
    """Report the format of a measurement, what it lacks and the orientation of its scan."""
    input:
        files=files_named,
    output:
        findings=directory("results/inspections/{scan}"),
    log:
        "results/logs/inspect/{scan}.log",
    benchmark:
        "results/benchmarks/inspect/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(MEASURED),
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("convert"),
        runtime=time("convert"),
    params:
        file=measurement,
        config=settings("convert"),
    shell:
        "python -m ptychoflow inspect --output {output.findings:q} --config {params.config:q}"
        " -- {params.file:q} > {log:q} 2>&1"


rule pack:
    """Pack a scan, or the even or odd half of its patterns, into a memory-mapped dataset."""
    input:
        scan=scan_file,
    output:
        dataset=directory("results/datasets/{scan}"),
    log:
        "results/logs/pack/{scan}.log",
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("pack"),
        runtime=time("pack"),
    params:
        config=settings("pack"),
        half=half_option,
    shell:
        "python -m ptychoflow pack {params.half:q} --config {params.config:q}"
        " --benchmark results/benchmarks/pack/{wildcards.scan:q}.tsv -- {input.scan:q} {output.dataset:q} > {log:q} 2>&1"

"""Export of refined reconstructions for other programs: results/exports/{method}/{scan} and {scan}.{form}."""


rule export:
    """Write ptychodus's standard directory, with the network that ptychodus can then reconstruct with."""
    input:
        reconstruction="results/refined/{method}/{scan}.h5",
        dataset="results/datasets/{scan}",
        model=network_behind,
    output:
        folder=directory("results/exports/{method}/{scan}"),
    log:
        "results/logs/export/{method}/{scan}.log",
    benchmark:
        "results/benchmarks/export/{method}/{scan}.tsv"
    wildcard_constraints:
        scan=one_of(CONFIG.scans),
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("export"),
        runtime=time("export"),
    params:
        model=option("model"),
    shell:
        "python -m ptychoflow export --scan {input.dataset:q} {params.model:q}"
        " -- {input.reconstruction:q} {output.folder:q} > {log:q} 2>&1"


rule export_file:
    """Write one file: a ptychodus product (h5, npz, cxi), an image (tif) or a PtychoPINN training file."""
    input:
        reconstruction="results/refined/{method}/{scan}.h5",
        dataset="results/datasets/{scan}",
    output:
        file="results/exports/{method}/{scan}.{form}",
    log:
        "results/logs/export/{method}/{scan}.{form}.log",
    benchmark:
        "results/benchmarks/export/{method}/{scan}.{form}.tsv"
    wildcard_constraints:
        scan=one_of(CONFIG.scans),
        form=r"h5|npz|cxi|tif|ptychopinn\.npz",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("export"),
        runtime=time("export"),
    shell:
        "python -m ptychoflow export --scan {input.dataset:q}"
        " -- {input.reconstruction:q} {output.file:q} > {log:q} 2>&1"

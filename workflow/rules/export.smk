"""From a refined reconstruction to what other programs open: results/exports/{model}/{scan} and {scan}.{form}."""


rule export:
    """Write ptychodus's standard directory, with the network that ptychodus can then reconstruct with."""
    input:
        reconstruction="results/refined/{model}/{scan}.h5",
        dataset="results/datasets/{scan}",
        model=network_behind,
    output:
        folder=directory("results/exports/{model}/{scan}"),
    log:
        "results/logs/export/{model}/{scan}.log",
    benchmark:
        "results/benchmarks/export/{model}/{scan}.tsv"
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
        "python -m ptychoflow export {input.reconstruction} {output.folder} --scan {input.dataset} {params.model}"
        " > {log} 2>&1"


rule export_file:
    """Write one file: a product of ptychodus (h5, npz, cxi), a picture (tif) or an archive (ptychopinn.npz)."""
    input:
        reconstruction="results/refined/{model}/{scan}.h5",
        dataset="results/datasets/{scan}",
    output:
        file="results/exports/{model}/{scan}.{form}",
    log:
        "results/logs/export/{model}/{scan}.{form}.log",
    benchmark:
        "results/benchmarks/export/{model}/{scan}.{form}.tsv"
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
        "python -m ptychoflow export {input.reconstruction} {output.file} --scan {input.dataset} > {log} 2>&1"

"""Reconstruction: results/patches/, results/reconstructions/ and results/refined/, each {method}/{scan}."""


rule infer:
    """Predict patches of the object for groups that contain every pattern."""
    input:
        model=network,
        dataset="results/datasets/{scan}",
    output:
        patches=directory("results/patches/{method}/{scan}"),
    log:
        "results/logs/infer/{method}/{scan}.log",
    benchmark:
        "results/benchmarks/infer/{method}/{scan}.tsv"
    wildcard_constraints:
        method=one_of(NETWORKS),
    conda:
        "../../envs/gpu.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=memory("infer"),
        runtime=time("infer"),
    params:
        config=settings("infer"),
    shell:
        "python -m ptychoflow infer --config {params.config:q}"
        ' --runtime "$PTYCHOFLOW_RUNTIME"'
        " -- {input.model:q} {input.dataset:q} {output.patches:q} > {log:q} 2>&1"


rule stitch:
    """Assemble the predicted patches to one object."""
    input:
        dataset="results/datasets/{scan}",
        patches=predicted,
    output:
        reconstruction="results/reconstructions/{method}/{scan}.h5",
    log:
        "results/logs/stitch/{method}/{scan}.log",
    benchmark:
        "results/benchmarks/stitch/{method}/{scan}.tsv"
    wildcard_constraints:
        method=one_of(set(NETWORKS) - set(FUSED)),
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=memory("stitch"),
        runtime=time("stitch"),
    params:
        config=settings("stitch"),
    shell:
        "python -m ptychoflow stitch --config {params.config:q}"
        ' --runtime "$PTYCHOFLOW_RUNTIME"'
        " -- {input.dataset:q} {input.patches:q} {output.reconstruction:q} > {log:q} 2>&1"


rule reconstruct:
    """Predict and stitch in one step, without patches on disk, or run learned refinement."""
    input:
        model=network,
        dataset="results/datasets/{scan}",
    output:
        reconstruction="results/reconstructions/{method}/{scan}.h5",
    log:
        "results/logs/reconstruct/{method}/{scan}.log",
    benchmark:
        "results/benchmarks/reconstruct/{method}/{scan}.tsv"
    wildcard_constraints:
        method=one_of(FUSED),
    conda:
        "../../envs/gpu.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=memory("reconstruct"),
        runtime=time("reconstruct"),
    params:
        config=settings("reconstruct"),
    shell:
        "python -m ptychoflow reconstruct --config {params.config:q}"
        ' --runtime "$PTYCHOFLOW_RUNTIME"'
        " -- {input.model:q} {input.dataset:q} {output.reconstruction:q} > {log:q} 2>&1"


rule refine:
    """Refine the object on the counts by rPIE, from the network's reconstruction or a uniform object."""
    input:
        dataset="results/datasets/{scan}",
        start=stitched,
    output:
        reconstruction="results/refined/{method}/{scan}.h5",
    log:
        "results/logs/refine/{method}/{scan}.log",
    benchmark:
        "results/benchmarks/refine/{method}/{scan}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 2
    resources:
        gpu=GPUS,
        mem_mb=memory("refine"),
        runtime=time("refine"),
    params:
        config=settings("refine"),
        start=option("start"),
    shell:
        "python -m ptychoflow refine {params.start:q} --config {params.config:q}"
        ' --runtime "$PTYCHOFLOW_RUNTIME"'
        " -- {input.dataset:q} {output.reconstruction:q} > {log:q} 2>&1"

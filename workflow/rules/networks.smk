"""Training of networks: results/networks/{method}.ckpt and its training log {method}.json."""


rule train:
    """Train a network; an interrupted training resumes from its checkpoints in results/checkpoints/{method}/."""
    input:
        datasets=training_datasets,
        start=finetuned_from,
    output:
        model="results/networks/{method}.ckpt",
        record="results/networks/{method}.json",
    log:
        "results/logs/train/{method}.log",
    benchmark:
        "results/benchmarks/train/{method}.tsv"
    wildcard_constraints:
        method=one_of(NETWORKS),
    conda:
        "../../envs/gpu.yaml"
    threads: 8
    resources:
        **SPREAD,
        gpu=GPUS * CONFIG.runtime.nodes,
        mem_mb=memory("train"),
        runtime=time("train"),
    params:
        config=settings("train"),
        start=option("start"),
    shell:
        "$PTYCHOFLOW_LAUNCH python -m ptychoflow train {params.start:q} --config {params.config:q}"
        ' --runtime "$PTYCHOFLOW_RUNTIME" --tracking "$PTYCHOFLOW_TRACKING"'
        " -- {input.datasets:q} {output.model:q} > {log:q} 2>&1"

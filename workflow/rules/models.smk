"""From datasets to a trained network: results/models/{model}.ckpt and its record {model}.json."""


rule train:
    """Train a network; half-trained checkpoints live in results/checkpoints/{model}/, so that a rerun resumes."""
    input:
        datasets=training_datasets,
        start=adapted,
    output:
        model="results/models/{model}.ckpt",
        record="results/models/{model}.json",
    log:
        "results/logs/train/{model}.log",
    benchmark:
        "results/benchmarks/train/{model}.tsv"
    wildcard_constraints:
        model=one_of(NETWORKS),
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
        "$PTYCHOFLOW_LAUNCH python -m ptychoflow train {input.datasets} {output.model} {params.start}"
        ' --config {params.config:q} --runtime "$PTYCHOFLOW_RUNTIME" --tracking "$PTYCHOFLOW_TRACKING" > {log} 2>&1'

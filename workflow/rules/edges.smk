# The edge of stability of each method: learning rates from a switch on, searched by bisection.

FIND_EDGES = "python -m sharpflat edge {input.config:q} {params.ids:q} 2> {log:q}"

for job in EDGE_JOBS:
    made = files_of(job, layout.edge, ["edge.csv", "summary.json", "edge.sha256"])
    given = [layout.dataset(job.dataset), *checkpoints_of(job)]
    params = {"ids": job.ids, "code": code_of(job, edge_code_hash), "torch": LOCKED_TORCH}
    work = {"made": made, "given": given, "params": params, "command": FIND_EDGES}

    rule:
        name:
            f"edge_{job.ids[0]}"
        input:
            config=common(RESOLVED, **work),
            checked=common(layout.runs_list(STUDY.name), **work),
            data=layout.dataset(job.dataset),
            checkpoints=checkpoints_of(job),
        output:
            update(made),
        log:
            LOGS / "edge" / f"{job.ids[0]}.log",
        benchmark:
            LOGS / "edge" / f"{job.ids[0]}.tsv"
        conda:
            ENVIRONMENT
        threads: STUDY.threads
        resources:
            mem_mb=4000,
            runtime=lambda _, attempt: 240 * attempt,
            gpu_slots=GPU_SLOTS,
            gpu=GPUS,
        params:
            **work["params"],
        shell:
            FIND_EDGES

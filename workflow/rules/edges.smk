# The edge of stability of each method: learning rates from a switch on, searched by bisection.

for job in plan.edge_jobs(STUDY):
    settings = {"ids": job.ids, "code": code_of(job, edge_code_hash), "torch": LOCKED_TORCH}
    made = layout.edge(STUDY.name, job.ids[0]) / "edge.csv"

    rule:
        name:
            f"edge_{job.ids[0]}"
        input:
            config=common(RESOLVED, made, settings),
            checked=common(layout.runs_list(STUDY.name), made, settings),
            data=layout.dataset(job.dataset),
            checkpoints=[
                layout.prefix(STUDY.name, name) / "checkpoint.pt"
                for name in sorted({edge.prefix.id for edge in job.records})
            ],
        output:
            update([layout.edge(STUDY.name, name) / "edge.csv" for name in job.ids]),
            update([layout.edge(STUDY.name, name) / "summary.json" for name in job.ids]),
            update([layout.edge(STUDY.name, name) / "edge.sha256" for name in job.ids]),
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
            **settings,
        shell:
            "python -m sharpflat edge {input.config:q} {params.ids:q} 2> {log:q}"

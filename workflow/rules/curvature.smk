# The curvature energy along runs; eigensolvers beside each other.

for job, folder in [
    *((job, layout.prefix) for job in plan.prefix_jobs(STUDY)),
    *((job, layout.run) for job in plan.run_jobs(STUDY)),
]:
    measured = [name for name in job.ids if name in SNAPSHOTS]
    if not measured:
        continue

    rule:
        name:
            f"energy_{measured[0]}"
        input:
            config=ancient(layout.resolved_config(TIER)),
            data=layout.dataset(job.dataset),
            snapshots=[folder(TIER, name) / "snapshots.pt" for name in measured],
            sources=TRAINING_SOURCES,
        output:
            [folder(TIER, name) / "energy.csv" for name in measured],
            [folder(TIER, name) / "energy.sha256" for name in measured],
        log:
            LOGS / "energy" / f"{measured[0]}.log",
        conda:
            ENVIRONMENT
        threads: STUDY.threads
        resources:
            mem_mb=4000,
            runtime=lambda _, attempt: 60 * attempt,
            gpu_slots=GPU_SLOTS,
            gpu=GPUS,
        params:
            ids=measured,
        shell:
            "python -m sharpflat energy {input.config} {params.ids} 2> {log}"


# Asked for by `benchmarks` alone.
if STUDY.benchmark is not None:

    rule benchmark:
        input:
            config=layout.resolved_config(TIER),
            data=[layout.dataset(setting.dataset) for setting in STUDY.benchmark.settings],
        output:
            directory(layout.benchmarks(TIER)),
        log:
            LOGS / "benchmark.log",
        conda:
            "../../envs/benchmarks.yaml"
        # Alone on the machine: what is timed shares it with no other job. A function, since a
        # cluster's workflow has no number of cores.
        threads: lambda _: workflow.cores
        resources:
            mem_mb=16000,
            runtime=240,
        shell:
            "python -m sharpflat benchmark {input.config} 2> {log}"

    rule cost_figure:
        input:
            tables=layout.benchmarks(TIER),
            sources=[PACKAGE / "figures/eigensolver_cost.py", PACKAGE / "figures/style.py"],
        output:
            table=layout.table(TIER, "eigensolver_cost"),
            pdf=layout.figure(TIER, "eigensolver_cost")[0],
            png=layout.figure(TIER, "eigensolver_cost")[1],
        log:
            LOGS / "figure" / "eigensolver_cost.log",
        conda:
            ENVIRONMENT
        shell:
            "cp {input.tables}/eigensolver_cost.csv {output.table} && "
            "python -m sharpflat figure eigensolver_cost {output.table} {output.pdf} {output.png}"
            " 2> {log}"

    rule benchmarks:
        input:
            layout.figure(TIER, "eigensolver_cost"),
        localrule: True

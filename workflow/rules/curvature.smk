# Eigensolvers beside each other on this tier's tasks; asked for by `benchmarks` alone.

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
        # Alone on the machine: what is timed shares it with no other job.
        threads: workflow.cores
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

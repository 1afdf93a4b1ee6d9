# The curvature energy along runs; eigensolvers beside each other.

MEASURE_ENERGIES = "python -m sharpflat energy {input.config:q} {params.ids:q} 2> {log:q}"
MEASURE_EIGENSOLVERS = "python -m sharpflat benchmark {input.config:q} 2> {log:q}"

for job, folder in [
    *((job, layout.prefix) for job in PREFIX_JOBS),
    *((job, layout.run) for job in RUN_JOBS),
]:
    measured = [name for name in job.ids if name in SNAPSHOTS]
    if not measured:
        continue
    folders = [folder(STUDY.name, name) for name in measured]
    made = [
        each / name for name in ("energy.csv", "energy.json", "energy.sha256") for each in folders
    ]
    # The trajectory is named in the energy's record.
    kept = [each / name for name in ("snapshots.pt", "trajectory.csv") for each in folders]
    params = {
        "ids": measured,
        # In no run's name.
        "probes": plan.probes(STUDY),
        "code": code_of(job, energy_code_hash),
        "torch": LOCKED_TORCH,
    }
    given = [layout.dataset(job.dataset), *kept]
    work = {"made": made, "given": given, "params": params, "command": MEASURE_ENERGIES}

    rule:
        name:
            f"energy_{measured[0]}"
        input:
            config=common(RESOLVED, **work),
            data=layout.dataset(job.dataset),
            kept=kept,
        output:
            update(made),
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
            **work["params"],
        shell:
            MEASURE_ENERGIES


# Asked for by `benchmarks` alone.
if STUDY.benchmark is not None:
    work = {
        "made": [layout.benchmarks(STUDY.name)],
        "given": [layout.dataset(setting.dataset) for setting in STUDY.benchmark.settings],
        "params": {
            # In no name.
            "benchmark": repr(STUDY.benchmark),
            "code": benchmark_code_hash(STUDY.benchmark.settings),
            "torch": LOCKED_TORCH,
        },
        "command": MEASURE_EIGENSOLVERS,
    }

    rule measure_eigensolvers:
        input:
            config=common(RESOLVED, **work),
            data=work["given"],
        output:
            directory(layout.benchmarks(STUDY.name)),
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
        params:
            **work["params"],
        shell:
            MEASURE_EIGENSOLVERS

    rule draw_eigensolver_cost:
        input:
            RESOLVED,
            tables=layout.benchmarks(STUDY.name),
            sources=[
                PACKAGE / "figures/eigensolver_cost.py",
                PACKAGE / "figures/style.py",
                PACKAGE / "methods.py",
            ],
        output:
            table=layout.table(STUDY.name, "eigensolver_cost"),
            pdf=layout.figure(STUDY.name, "eigensolver_cost")[0],
            png=report(
                layout.figure(STUDY.name, "eigensolver_cost")[1],
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": "eigensolver_cost"},
            ),
        log:
            LOGS / "figure" / "eigensolver_cost.log",
        conda:
            ENVIRONMENT
        shell:
            "cp {input.tables:q}/eigensolver_cost.csv {output.table:q} && "
            "python -m sharpflat figure eigensolver_cost {output.table:q} {output.pdf:q} {output.png:q}"
            " 2> {log:q}"

    rule benchmarks:
        input:
            RESOLVED,
            layout.figure(STUDY.name, "eigensolver_cost"),
        localrule: True

    # As every figure, by its name too.
    rule eigensolver_cost:
        input:
            RESOLVED,
            layout.figure(STUDY.name, "eigensolver_cost"),
        localrule: True

else:
    NO_BENCHMARKS = (
        "echo 'the {STUDY.tier} tier measures no eigensolvers: ask with `--config tier=paper`,"
        " or tier=smoke' >&2 && false"
    )

    rule benchmarks:
        localrule: True
        shell:
            NO_BENCHMARKS

    rule eigensolver_cost:
        localrule: True
        shell:
            NO_BENCHMARKS

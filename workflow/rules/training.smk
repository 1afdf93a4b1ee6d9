# The list of runs, the SGD prefixes, and the runs that branch from their switch.


rule resolve_config:
    output:
        layout.resolved_config(STUDY.name),
    log:
        LOGS / "resolve.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        values=plan.resolved_json(STUDY),
    shell:
        "printf '%s\n' {params.values:q} > {output:q} 2> {log:q}"


rule list_runs:
    input:
        config=layout.resolved_config(STUDY.name),
        sources=[PACKAGE / "model_sizes.py"],
    output:
        report(
            layout.runs_list(STUDY.name),
            caption="../report/runs.rst",
            category="Runs",
            labels={"table": "runs"},
        ),
    log:
        LOGS / "plan.log",
    conda:
        ENVIRONMENT
    params:
        rows=sha256(plan.runs_csv(STUDY).encode()).hexdigest(),
        # The models, whose sizes are counted.
        code=sorted(
            {hash_of(training_code_hash, task) for task in map(task_of, plan.all_prefixes(STUDY))}
        ),
    shell:
        "python -m sharpflat plan {input.config:q} {output:q} 2> {log:q}"


# Runs that are on a GPU at a time; `--resources gpu_slots=4` lets four share one.
GPU_SLOTS = 0 if STUDY.device == "cpu" else 1
# GPUs that a cluster's scheduler must give a job: with `auto`, one without a GPU will do.
GPUS = 1 if STUDY.device == "cuda" else 0


TRAINED = ("trajectory.csv", "summary.json", "trajectory.sha256")
# Constants, since Snakemake looks a command's name up when the job runs.
TRAIN_PREFIXES = "python -m sharpflat prefix {input.config:q} {params.ids:q} 2> {log:q}"
TRAIN_RUNS = "python -m sharpflat train {input.config:q} {params.ids:q} 2> {log:q}"

# One rule a job: short runs of one task share a process. A job updates its outputs, so that a run
# that is added to it does not train the others again. What decides a run is in the run's name, and
# what else decides it is hashed into the job's parameters, so that a comment trains nothing.
for job in PREFIX_JOBS:
    made = [
        *files_of(job, layout.prefix, [*TRAINED, "checkpoint.pt"]),
        *kept_by(job, layout.prefix),
    ]
    given = [layout.dataset(job.dataset)]
    work = {"made": made, "given": given, "params": training_params(job), "command": TRAIN_PREFIXES}

    rule:
        name:
            f"prefix_{job.ids[0]}"
        input:
            config=common(RESOLVED, **work),
            # Nothing trains before every model was seen to be large enough.
            checked=common(layout.runs_list(STUDY.name), **work),
            data=layout.dataset(job.dataset),
        output:
            update(made),
        log:
            LOGS / "prefix" / f"{job.ids[0]}.log",
        benchmark:
            LOGS / "prefix" / f"{job.ids[0]}.tsv"
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
            TRAIN_PREFIXES


for job in RUN_JOBS:
    made = [*files_of(job, layout.run, TRAINED), *kept_by(job, layout.run)]
    given = [layout.dataset(job.dataset), *checkpoints_of(job)]
    work = {"made": made, "given": given, "params": training_params(job), "command": TRAIN_RUNS}

    rule:
        name:
            f"train_{job.ids[0]}"
        input:
            config=common(RESOLVED, **work),
            checked=common(layout.runs_list(STUDY.name), **work),
            data=layout.dataset(job.dataset),
            checkpoints=checkpoints_of(job),
        output:
            update(made),
        log:
            LOGS / "train" / f"{job.ids[0]}.log",
        benchmark:
            LOGS / "train" / f"{job.ids[0]}.tsv"
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
            TRAIN_RUNS

# The checked configuration, and what every rule of the workflow shares.
import json
import shlex
from base64 import b64encode
from collections import namedtuple
from functools import cache
from hashlib import sha256

from snakemake.settings.types import DeploymentMethod

from sharpflat import layout, plan
from sharpflat.config import read_tier
from sharpflat.settings import ConfigError
from sharpflat.sources import (
    benchmark_code_hash,
    data_code_hash,
    edge_code_hash,
    energy_code_hash,
    training_code_hash,
)
from sharpflat.status import refuse_other

TIER = config.get("tier", "laptop")
try:
    # Here and not by `configfile:`, which a workflow that takes this one as a module passes over.
    STUDY = read_tier(TIER, CHECKOUT, config)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Every target asks for it. Where it is missing, as from a tarball, whose files are all equally old,
# nothing else says that the figures there may be of other settings; once made, it is newer.
RESOLVED = layout.resolved_config(STUDY.name)


def recorded(path):
    """Snakemake's record of how it made a file; nothing of what it has not made."""
    name = b64encode(str(path).encode(), b"_-").decode()
    # As Snakemake splits what is too long for a file's name.
    *folders, name = [name[start : start + 254] for start in range(0, len(name), 254)]
    record = Path(".snakemake/metadata", *(f"@{folder}" for folder in folders), name)
    return json.loads(record.read_text()) if record.exists() else {}


# Where it was copied here without Snakemake's records, which alone tell of other settings and code,
# Snakemake would take any result for what is asked for.
if workflow.is_main_process and RESOLVED.exists() and not recorded(RESOLVED):
    try:
        refuse_other(STUDY)
    except ValueError as error:
        raise WorkflowError(str(error)) from None

ENVIRONMENT = "../../envs/sharpflat.yaml"
LOGS = layout.results(STUDY.name) / "logs"
PACKAGE = Path("src/sharpflat")

# Jobs run the package of this checkout. With conda or a container, `python` is theirs; without, it is
# the one that runs Snakemake, activated or not.
ENVIRONMENT_VARIABLES = f"PYTHONPATH={shlex.quote(f'{CHECKOUT}/src')}"
DEPLOYED = {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER}
if not DEPLOYED & set(workflow.deployment_settings.deployment_method):
    ENVIRONMENT_VARIABLES += f' PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'
# glibc gives large blocks back to the system as soon as they are freed, and pays for every page when
# it takes them again: a Hessian-vector product of the CNN takes 1.4 times as long.
ENVIRONMENT_VARIABLES += " MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592"
shell.prefix(f"export {ENVIRONMENT_VARIABLES}; ")

# Besides the version that is installed here, and hashed with the code, the one that jobs in an
# environment of their own are given.
LOCK = CHECKOUT / "envs/requirements.lock"
LOCKED_TORCH = [
    line.rstrip(" \\") for line in LOCK.read_text().splitlines() if line.startswith("torch==")
]


# Runs and prefixes that keep parameters along the way, so that the energy is measured there.
SNAPSHOTS = plan.snapshots(STUDY)

PREFIX_JOBS = plan.prefix_jobs(STUDY)
RUN_JOBS = plan.run_jobs(STUDY)
EDGE_JOBS = plan.edge_jobs(STUDY)
# Of every record. A name hashes all that the record holds, and rules ask for thousands.
NAMES = {
    record: name
    for job in (*PREFIX_JOBS, *RUN_JOBS, *EDGE_JOBS)
    for record, name in zip(job.records, job.ids)
}

Task = namedtuple("Task", "dataset model loss")


def task_of(prefix):
    return Task(prefix.dataset, prefix.model, prefix.loss)


@cache
def hash_of(code_hash, task):
    """Of the code for a task, which hundreds of runs share."""
    return code_hash(task)


def code_of(job, code_hash):
    """Hashes of what the job's results depend on, one a loss."""
    tasks = [task_of(getattr(record, "prefix", record)) for record in job.records]
    return [hash_of(code_hash, task) for task in dict.fromkeys(tasks)]


# Of a job below one that is to run Snakemake does not ask whether it has a reason of its own, and the
# one that resolves the configuration is above all.
def common(path, *, made, given, params, command):
    """What all jobs read, which is no reason to make anything again unless there is another one.

    Such are outputs that Snakemake has not recorded with these parameters and this command, and
    inputs of the job's own that are newer. Training again what is whole takes a moment.
    """
    now = {repr(value) for value in params.values()}
    records = [recorded(file) for file in made]
    same = all(
        set(record.get("params", ())) == now and record.get("code") == command for record in records
    )
    if not same or not all(file.exists() for file in made):
        return path
    oldest = min(file.stat().st_mtime for file in made)
    newer = any(file.stat().st_mtime > oldest for file in given if file.exists())
    return path if newer else ancient(path)


def files_of(job, folder, names):
    """Files of a name in the folder of each of a job's results."""
    return [folder(STUDY.name, result) / name for name in names for result in job.ids]


def checkpoints_of(job):
    """The switches that a job's results branch from."""
    prefixes = sorted({NAMES[record.prefix] for record in job.records})
    return [layout.prefix(STUDY.name, name) / "checkpoint.pt" for name in prefixes]


def training_params(job):
    return {
        "ids": job.ids,
        # In no run's name.
        "snapshots": [SNAPSHOTS.get(name, 0) for name in job.ids],
        "code": code_of(job, training_code_hash),
        "torch": LOCKED_TORCH,
    }


def kept_by(job, folder):
    return [folder(STUDY.name, name) / "snapshots.pt" for name in job.ids if name in SNAPSHOTS]


def runs_of_figure(wildcards):
    figure = STUDY.figures[wildcards.figure]
    runs = plan.figure_runs(STUDY, figure)
    folders = {layout.run(STUDY.name, NAMES[run.record]) for run in runs}
    folders |= {layout.prefix(STUDY.name, NAMES[run.record.prefix]) for run in runs}
    names = ["trajectory.csv", "summary.json", "trajectory.sha256"]
    if figure.snapshots:
        names += ["energy.csv", "energy.json", "energy.sha256"]
    searches = plan.figure_edges(STUDY, figure)
    edges = {layout.edge(STUDY.name, NAMES[edge.record]) for edge in searches}
    searched = ["edge.csv", "summary.json", "edge.sha256"]
    return [
        *(folder / name for folder in sorted(folders) for name in names),
        *(folder / name for folder in sorted(edges) for name in searched),
    ]


wildcard_constraints:
    figure="[a-z_0-9]+",
    dataset="[a-z_0-9]+",

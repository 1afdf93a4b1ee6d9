# The checked configuration, and what every rule of the workflow shares.
import json

from snakemake.settings.types import DeploymentMethod

from sharpflat import layout, plan
from sharpflat.config import ConfigError, parse_config
from sharpflat.sources import training_sources

try:
    STUDY = parse_config({"tier": TIER, **config}, Path(workflow.basedir))
except ConfigError as error:
    raise WorkflowError(str(error)) from None

ENVIRONMENT = "../../envs/sharpflat.yaml"
LOGS = layout.results(TIER) / "logs"
PACKAGE = Path("src/sharpflat")

# Jobs run the package of this checkout. With conda, `python` is the environment's; without, it is
# the one that runs Snakemake, activated or not.
ENVIRONMENT_VARIABLES = f"PYTHONPATH='{workflow.basedir}/src'"
if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
    ENVIRONMENT_VARIABLES += f" PATH='{Path(sys.executable).parent}':\"$PATH\""
shell.prefix(f"export {ENVIRONMENT_VARIABLES}; ")


def relative(path):
    return path.relative_to(workflow.basedir)


def runs_of_figure(wildcards):
    runs = plan.figure_runs(STUDY, STUDY.figures[wildcards.figure])
    folders = {layout.run(TIER, run.record.id) for run in runs}
    folders |= {layout.prefix(TIER, run.record.prefix.id) for run in runs}
    return [
        folder / name for folder in sorted(folders) for name in ("trajectory.csv", "summary.json")
    ]


wildcard_constraints:
    figure="[a-z_0-9]+",
    dataset="[a-z_0-9]+",

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# Every command of the workflow reads and writes under the working directory, and the package and
# its settings are this checkout's: the two are one, whether by `cd` or by `--directory`.
if not Path.cwd().samefile(workflow.basedir):
    raise WorkflowError(
        f"the working directory is {Path.cwd()}, and this workflow runs in its own checkout alone: "
        f"change to {workflow.basedir}, or give --directory with it"
    )

# A colon separates the folders that Python imports from; braces are Snakemake's.
if wrong := set(":{}") & set(workflow.basedir):
    raise WorkflowError(
        f"{workflow.basedir} holds {' and '.join(sorted(wrong))}, which neither Python nor Snakemake "
        "takes in a folder's name: rename or move the checkout"
    )

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from sharpflat.config import TIERS

TIER = config.get("tier", "laptop")
if TIER not in TIERS:
    raise WorkflowError(f"tier = {TIER!r} is unknown; allowed are {', '.join(TIERS)}")


configfile: "workflow/config/claims.yaml"
configfile: f"workflow/config/{TIER}.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/edges.smk"
include: "workflow/rules/curvature.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"


rule all:
    default_target: True
    input:
        [layout.figure(STUDY.name, name) for name in STUDY.figures],
        layout.runs_list(STUDY.name),
        layout.claims(STUDY.name),
        layout.report(STUDY.name),
    localrule: True

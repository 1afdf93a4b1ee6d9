# The workflow lies in workflow/Snakefile; from here on the root, `snakemake` takes it as well.
include: "workflow/Snakefile"


# A file that is included sets no default target.
workflow.default_target = "all"

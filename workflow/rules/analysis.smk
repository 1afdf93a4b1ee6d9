# The tidy table behind each figure.


rule table:
    input:
        runs_of_figure,
        config=layout.resolved_config(TIER),
        sources=[PACKAGE / "analysis/tables.py", PACKAGE / "plan.py"],
    output:
        layout.table(TIER, "{figure}"),
    log:
        LOGS / "table" / "{figure}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat table {input.config} {wildcards.figure} {output} 2> {log}"

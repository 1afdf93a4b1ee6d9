# The tidy table behind each figure, the claims that they decide, and the report.


rule table:
    input:
        runs_of_figure,
        config=layout.resolved_config(TIER),
        sources=[
            PACKAGE / "analysis/tables.py",
            PACKAGE / "analysis/edge_table.py",
            PACKAGE / "plan.py",
        ],
    output:
        layout.table(TIER, "{figure}"),
    log:
        LOGS / "table" / "{figure}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat table {input.config:q} {wildcards.figure:q} {output:q} 2> {log:q}"


rule claims_table:
    input:
        [layout.table(TIER, name) for name in STUDY.figures],
        config=layout.resolved_config(TIER),
        sources=[*sorted((PACKAGE / "analysis").rglob("*.py")), PACKAGE / "stability.py"],
    output:
        layout.claims(TIER),
    log:
        LOGS / "claims.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat claims {input.config:q} {output:q} 2> {log:q}"


rule report_page:
    input:
        [layout.figure(TIER, name)[1] for name in STUDY.figures],
        layout.claims(TIER),
        layout.runs_list(TIER),
        config=layout.resolved_config(TIER),
        # Captions are drawn from the tables, with the words of the figures.
        sources=[
            *sorted((PACKAGE / "report").rglob("*.*")),
            *sorted((PACKAGE / "figures").glob("*.py")),
            *sorted((PACKAGE / "analysis").glob("*.py")),
        ],
    output:
        layout.report(TIER),
    log:
        LOGS / "report.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat report {input.config:q} {output:q} 2> {log:q}"


rule claims:
    input:
        layout.claims(TIER),
    localrule: True


rule report:
    input:
        layout.report(TIER),
    localrule: True

# The tidy table behind each figure, the claims that they decide, and the report.


rule collect_table:
    input:
        runs_of_figure,
        config=layout.resolved_config(STUDY.name),
        # With it what is below the jobs to which it is ancient is made anew; see `common`.
        checked=layout.runs_list(STUDY.name),
        sources=[
            PACKAGE / "analysis/tables.py",
            PACKAGE / "analysis/edge_table.py",
            PACKAGE / "analysis/finished.py",
            PACKAGE / "cli/results.py",
            PACKAGE / "plan.py",
        ],
    output:
        report(
            layout.table(STUDY.name, "{figure}"),
            caption="../report/table.rst",
            category="Tables",
            labels={"figure": "{figure}"},
        ),
    log:
        LOGS / "table" / "{figure}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat table {input.config:q} {wildcards.figure:q} {output:q} 2> {log:q}"


rule decide_claims:
    input:
        [layout.table(STUDY.name, name) for name in STUDY.figures],
        config=layout.resolved_config(STUDY.name),
        sources=[
            *sorted((PACKAGE / "analysis").rglob("*.py")),
            PACKAGE / "cli/results.py",
            PACKAGE / "stability.py",
        ],
    output:
        report(
            layout.claims(STUDY.name),
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims"},
        ),
    log:
        LOGS / "claims.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat claims {input.config:q} {output:q} 2> {log:q}"


rule write_report:
    input:
        [layout.figure(STUDY.name, name)[1] for name in STUDY.figures],
        [layout.table(STUDY.name, name) for name in STUDY.figures],
        layout.claims(STUDY.name),
        layout.runs_list(STUDY.name),
        # It says of each what made it, how long that took, and which alarms rang.
        [
            layout.prefix(STUDY.name, NAMES[each]) / "summary.json"
            for each in plan.all_prefixes(STUDY)
        ],
        [layout.run(STUDY.name, NAMES[each]) / "summary.json" for each in plan.all_runs(STUDY)],
        [layout.edge(STUDY.name, NAMES[each]) / "summary.json" for each in plan.all_edges(STUDY)],
        config=layout.resolved_config(STUDY.name),
        # Captions are drawn from the tables, with the words of the figures.
        sources=[
            *sorted((PACKAGE / "report").glob("*.py")),
            *sorted((PACKAGE / "report/templates").iterdir()),
            *sorted((PACKAGE / "figures").glob("*.py")),
            *sorted((PACKAGE / "analysis").rglob("*.py")),
            PACKAGE / "cli/results.py",
            PACKAGE / "methods.py",
            PACKAGE / "plan.py",
            PACKAGE / "stability.py",
        ],
    output:
        report(
            layout.report(STUDY.name),
            caption="../report/page.rst",
            category="Page",
            labels={"page": "report"},
        ),
    log:
        LOGS / "report.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat report {input.config:q} {output:q} 2> {log:q}"


rule claims:
    input:
        RESOLVED,
        layout.claims(STUDY.name),
    localrule: True


rule report:
    input:
        RESOLVED,
        layout.report(STUDY.name),
    localrule: True

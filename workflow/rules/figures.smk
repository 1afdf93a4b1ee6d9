# Each figure from its table alone: redrawing trains nothing.


rule draw_figure:
    input:
        table=layout.table(STUDY.name, "{figure}"),
        sources=[
            *sorted((PACKAGE / "figures").glob("*.py")),
            *sorted((PACKAGE / "analysis").glob("*.py")),
            PACKAGE / "cli/results.py",
            PACKAGE / "methods.py",
            PACKAGE / "stability.py",
        ],
    output:
        pdf=layout.figure(STUDY.name, "{figure}")[0],
        png=report(
            layout.figure(STUDY.name, "{figure}")[1],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        LOGS / "figure" / "{figure}.log",
    conda:
        ENVIRONMENT
    params:
        kind=lambda wildcards: STUDY.figures[wildcards.figure].kind,
    shell:
        "python -m sharpflat figure {params.kind:q} {input.table:q} {output.pdf:q} {output.png:q} 2> {log:q}"


# Every figure can be asked for by its name.
for name in STUDY.figures:

    rule:
        name:
            name
        input:
            RESOLVED,
            layout.figure(STUDY.name, name),
        localrule: True

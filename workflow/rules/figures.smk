# Each figure from its table alone: redrawing trains nothing.


rule figure:
    input:
        table=layout.table(TIER, "{figure}"),
        sources=[
            *sorted((PACKAGE / "figures").glob("*.py")),
            *sorted((PACKAGE / "analysis").glob("*.py")),
            PACKAGE / "methods.py",
            PACKAGE / "stability.py",
        ],
    output:
        pdf=layout.figure(TIER, "{figure}")[0],
        png=layout.figure(TIER, "{figure}")[1],
    log:
        LOGS / "figure" / "{figure}.log",
    conda:
        ENVIRONMENT
    shell:
        "python -m sharpflat figure {wildcards.figure:q} {input.table:q} {output.pdf:q} {output.png:q} 2> {log:q}"


# Every figure can be asked for by its name.
for name in STUDY.figures:

    rule:
        name:
            name
        input:
            layout.figure(TIER, name),
        localrule: True

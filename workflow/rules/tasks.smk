# What is trained: each data set in its canonical form.


rule data:
    input:
        sources=sorted((PACKAGE / "tasks").rglob("*.py")),
    output:
        arrays=layout.dataset("{dataset}"),
        provenance=layout.dataset("{dataset}").with_suffix(".provenance.json"),
    log:
        LOGS / "data" / "{dataset}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        mirror="" if STUDY.data_mirror is None else f"--mirror {STUDY.data_mirror}",
    shell:
        "python -m sharpflat data {wildcards.dataset} {output.arrays} {params.mirror} 2> {log}"

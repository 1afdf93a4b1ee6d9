# What is trained: each data set in its canonical form.


rule prepare_data:
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
        mirror=[] if STUDY.data_mirror is None else ["--data-mirror", str(STUDY.data_mirror)],
        code=lambda wildcards: data_code_hash(wildcards.dataset),
    shell:
        "python -m sharpflat data {wildcards.dataset:q} {output.arrays:q} {params.mirror:q} 2> {log:q}"

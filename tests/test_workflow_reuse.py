"""The workflow for others: another workflow's module, captions, the catalog's entry.

Each test runs the real Snakemake on a copy of the checkout.
"""

import re
from pathlib import Path

import pytest
import yaml
from checkouts import ROOT, copy_checkout, jobs_of, snakemake

from sharpflat.figures import FIGURES

MODULE = """
module study:
    snakefile:
        "{snakefile}"
    config:
        config["study"]
{more}

use rule * from study as study_*


rule size:
    default_target: True
    input:
        "paper_figures/smoke/dom_bulk.png",
    output:
        "size.txt",
    shell:
        "wc -c {{input}} > {{output}}"
"""
#: None of them the tier's; they are seen in the number of jobs.
SETTINGS = {"seeds": [0], "steps_per_job": 1}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def _host(folder: Path, snakefile: Path, *, more: str = "", **study: object) -> tuple[str, ...]:
    """Another workflow's folder, and the arguments that run it."""
    (folder / "Snakefile").write_text(MODULE.format(snakefile=snakefile, more=more))
    (folder / "config.yaml").write_text(yaml.safe_dump({"study": {"tier": "smoke"} | study}))
    return (
        *("--snakefile", str(folder / "Snakefile"), "--configfile", str(folder / "config.yaml")),
        "--dry-run",
    )


@pytest.fixture(scope="module")
def own(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The jobs of a figure in the checkout itself."""
    settings = tmp_path_factory.mktemp("settings") / "settings.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS))
    here = ("dom_bulk", "--dry-run", "--configfile", str(settings), "--config", "tier=smoke")
    jobs = jobs_of(snakemake(checkout, *here))
    del jobs["dom_bulk"]
    return jobs


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_another_workflow_takes_it_as_a_module(
    checkout: Path, tmp_path: Path, own: dict[str, int], snakefile: str
) -> None:
    """Oracle: the jobs of the same figure in the checkout itself; settings go along."""
    asked = _host(tmp_path, checkout / snakefile, **SETTINGS)
    jobs = jobs_of(snakemake(tmp_path, *asked, "--directory", str(checkout)).replace("study_", ""))
    del jobs["size"]
    assert jobs == own


@pytest.mark.parametrize(
    ("more", "study", "directory", "fragments"),
    [
        ("", {}, "host", ("the working directory is", "give --directory with it")),
        (
            "    prefix: 'study'",
            {},
            "checkout",
            ("`prefix` and `replace_prefix`", "leave them out"),
        ),
        ("", {"sedes": 3}, "checkout", ("'sedes'", "allowed are tier")),
    ],
)
def test_what_a_module_cannot_have_is_refused_in_words(
    checkout: Path,
    tmp_path: Path,
    more: str,
    study: dict[str, object],
    directory: str,
    fragments: tuple[str, ...],
) -> None:
    asked = _host(tmp_path, checkout / "workflow/Snakefile", more=more, **study)
    where = checkout if directory == "checkout" else tmp_path
    output = snakemake(tmp_path, *asked, "--directory", str(where), fails=True)
    assert all(fragment in output for fragment in fragments)


def test_the_workflow_alone_is_refused_with_its_remedy(tmp_path: Path) -> None:
    """As it comes by address: its rules without the package."""
    (tmp_path / "workflow").mkdir()
    copied = tmp_path / "workflow/Snakefile"
    copied.write_text((ROOT / "workflow/Snakefile").read_text())
    output = snakemake(tmp_path, "--dry-run", fails=True)
    assert f"{tmp_path} holds no src/sharpflat" in output
    assert "give the path of a clone" in output


def test_every_kind_of_figure_has_a_caption() -> None:
    captions = (ROOT / "workflow/report/figure.rst").read_text()
    assert [kind for kind in FIGURES if f'"{kind}":' not in captions] == []


def _catalog_page() -> str:
    return (ROOT / "config/README.md").read_text().partition("| key |")[2]


def test_the_catalog_finds_what_it_lists_a_workflow_by() -> None:
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert entry["usage"]["report"]
    assert (ROOT / "workflow/Snakefile").exists()
    keys = re.findall(r"^\| (`.*?`) \| (?!file)", _catalog_page(), flags=re.MULTILINE)
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert set(re.findall(r"`(\w+)`", " ".join(keys))) == set(schema["properties"])

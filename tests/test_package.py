"""The package as others install it: a wheel of the library, with the study behind extras."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml
from package.alone import STUDY

import sharpflat

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel does."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(source)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = source.glob("*.whl")
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def _run(installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the wheel is installed and nothing that the study needs besides."""
    for name in STUDY:
        (installed / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('{name} is not there', name='{name}')\n"
        )
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *command], cwd=installed, env=environment, capture_output=True, text=True
    )


def _metadata(installed: Path) -> Message:
    (path,) = installed.glob("*.dist-info/METADATA")
    return message_from_string(path.read_text())


def _files(package: Path) -> set[Path]:
    paths = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(package) for path in paths}


def test_the_library_works_where_nothing_else_is_installed(installed: Path) -> None:
    done = _run(installed, str(ROOT / "tests/package/alone.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{installed / 'sharpflat'}\n"


def test_a_bare_install_needs_torch_numpy_and_scipy_alone(installed: Path) -> None:
    required = _metadata(installed).get_all("Requires-Dist")
    bare = [line for line in required if "extra ==" not in line]
    assert {re.split(r"[<>=!]", line)[0] for line in bare} == {"numpy", "scipy", "torch"}
    extras = _metadata(installed).get_all("Provides-Extra")
    assert {"workflow", "benchmarks"} <= set(extras)


def test_the_wheel_holds_every_file_of_the_package_and_no_other(installed: Path) -> None:
    assert _files(installed / "sharpflat") == _files(ROOT / "src/sharpflat")


@pytest.mark.parametrize("arguments", [["status", "--tier", "smoke"], ["cost"]])
def test_a_command_of_the_study_says_what_to_install(installed: Path, arguments: list[str]) -> None:
    done = _run(installed, "-m", "sharpflat", *arguments)
    assert done.returncode == 1
    assert re.fullmatch(
        r'sharpflat: the study\'s commands need \w+, .*pip install "sharpflat\[workflow\]".*\n',
        done.stderr,
    )


def test_the_version_is_told_everywhere_alike(installed: Path) -> None:
    """Stated in the package; wheel, citation, archive and list of changes say the same."""
    version = sharpflat.__version__
    assert _metadata(installed)["Version"] == version
    assert _run(installed, "-m", "sharpflat", "--version").stdout == f"sharpflat {version}\n"
    assert _citation()["version"] == version
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def _citation() -> dict[str, Any]:
    citation: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    return citation


def test_the_archive_and_the_citation_say_the_same_of_the_project() -> None:
    archive, citation = json.loads((ROOT / ".zenodo.json").read_text()), _citation()
    for name in ("title", "license", "keywords"):
        assert archive[name] == citation[name]
    assert [creator["name"] for creator in archive["creators"]] == [
        author["name"] for author in citation["authors"]
    ]
    (study, _) = citation["references"]
    for author in study["authors"]:
        assert f"{author['given-names']} {author['family-names']}" in archive["description"]
    assert study["identifiers"][0]["value"] == archive["related_identifiers"][0]["identifier"]

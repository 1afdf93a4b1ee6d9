"""The site's pages beside what they describe; `make docs` builds them."""

import re
from pathlib import Path

import pytest

import sharpflat.curvature
import sharpflat.optim

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "api/curvature.md").read_text()
    shown = re.findall(r"^\.\. auto\w+:: (\w+)$", page, flags=re.MULTILINE)
    assert sorted(shown) == sorted(sharpflat.curvature.__all__)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    if "generated" in page.parts or "_build" in page.parts:
        pytest.skip("made by a build")
    named = re.findall(r"`((?:src|workflow|envs|tests|config|docs)/[\w./]+)`", page.read_text())
    made = {"envs/sharpflat.sif"}  # by `make container`
    assert [path for path in named if path not in made and not (ROOT / path).exists()] == []

"""The site's pages beside what they describe; `make docs` builds them."""

import re
from pathlib import Path

import sharpflat.curvature
import sharpflat.optim

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs/api/curvature.md").read_text()
    shown = re.findall(r"^\.\. auto\w+:: (\w+)$", page, flags=re.MULTILINE)
    assert sorted(shown) == sorted(sharpflat.curvature.__all__)

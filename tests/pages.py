"""The pages that people read: the README, and those of the site beside it."""

import re

from checkouts import ROOT

README = ROOT / "README.md"
PAGES = (
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)


def text() -> str:
    """All pages, one after the other."""
    return "\n".join(page.read_text() for page in PAGES)


def blocks(language: str) -> list[str]:
    """Their blocks of code in a language, each once."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text(), flags=re.DOTALL | re.MULTILINE)
    return list(dict.fromkeys(found))

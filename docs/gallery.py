"""The gallery: each script of `examples/`, run by the command in its docstring."""

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/generated/examples"
HEAD = """# Examples

Scripts of `examples/`, each run by its own command when this site is built.

"""


@dataclass(frozen=True)
class Example:
    """A script, and the parts of its docstring."""

    script: Path
    title: str
    text: str
    commands: str

    @classmethod
    def read(cls, script: Path) -> "Example":
        """Read a script; its indented lines are the commands that run it."""
        title, _, rest = (ast.get_docstring(ast.parse(script.read_text())) or "").partition("\n")
        indented = re.findall(r"^ {4}(.*)$", rest, flags=re.MULTILINE)
        text = re.sub(r"^ {4}.*$", "", rest, flags=re.MULTILINE)
        return cls(script, title.rstrip("."), text.strip(), "\n".join(indented))

    def run(self) -> str:
        """What the script prints; the pictures that it draws are left beside the pages.

        Raises:
            ExtensionError: It fails, or its docstring has no command.
        """
        named = f"examples/{self.script.name}"
        command = next((line for line in self.commands.splitlines() if named in line), None)
        if command is None:
            raise ExtensionError(f"{named}: the docstring has no indented line that runs it")
        words = shlex.split(command.partition("#")[0].replace(named, str(self.script)))
        if words[0] == "torchrun":
            words[:1] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        elif words[0] == "python":
            words[0] = sys.executable
        surroundings = {"PYTHONPATH": str(ROOT / "src"), "MPLBACKEND": "agg"}
        done = subprocess.run(
            words, cwd=PAGES, env=os.environ | surroundings, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ExtensionError(f"{named} fails:\n{done.stderr}")
        return done.stdout

    def page(self) -> str:
        """The script's page, in Markdown."""
        before = set(PAGES.glob("*.png"))
        shown = self.run()
        drawn = sorted(set(PAGES.glob("*.png")) - before)
        parts = [
            f"# {self.title}",
            self.text,
            f"```sh\n{self.commands}\n```",
            *(f"![What it draws]({picture.name})" for picture in drawn),
            f"```text\n{shown.rstrip()}\n```",
            f"```{{literalinclude}} {os.path.relpath(self.script, PAGES)}\n:language: python\n```",
        ]
        return "\n\n".join(parts) + "\n"


def write(_: Sphinx) -> None:
    """Write the pages, anew where a script changed since its page was written."""
    PAGES.mkdir(parents=True, exist_ok=True)
    scripts = sorted((ROOT / "examples").glob("*.py"))
    for script in scripts:
        page = PAGES / f"{script.stem}.md"
        if not page.exists() or page.stat().st_mtime < script.stat().st_mtime:
            page.write_text(Example.read(script).page())
    for page in PAGES.glob("*.md"):
        if page.stem not in {"index", *(script.stem for script in scripts)}:
            page.unlink()
    entries = "\n".join(script.stem for script in scripts)
    (PAGES / "index.md").write_text(f"{HEAD}```{{toctree}}\n{entries}\n```\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the gallery before pages are read."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The site: `make docs` builds it, warnings are errors."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs")]

from sharpflat import __version__  # noqa: E402

project = "sharpflat"
author = "The sharpflat authors"
copyright = "2026, The sharpflat authors"
version = release = __version__

extensions = [
    "gallery",
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinxarg.ext",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "tutorial",
    "generated/scripts",
    "**/sg_execution_times.rst",
    "sg_execution_times.rst",
]
nitpicky = True
# Other packages' pages are on the network, and this site builds without one.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(torch|nn|np|numpy|scipy|collections|Tensor|ndarray|LinearOperator|ProcessGroup)\b.*",
    ),
    # Of the package itself: aliases of types, and what docstrings name and nobody calls.
    ("py:class", r"(LossFunction|Nested|Chosen)"),
    ("py:class", r"sharpflat\.curvature\.(algebra\.LinearCombination|surroundings\.Surroundings)"),
    ("py:func", r"sharpflat\.curvature\.output_curvature\.output_traces"),
]

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_math_renderer = "mathml"
html_css_files = ["site.css"]
html_title = f"sharpflat {version}"
html_static_path = ["_static"]
html_show_sphinx = False


sphinx_gallery_conf = {
    "examples_dirs": ["tutorial"],
    "gallery_dirs": ["generated/tutorial"],
    "filename_pattern": r"\.py$",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1e9,
    "abort_on_example_error": True,
}

"""Sphinx's configuration: ``make docs`` builds build/docs/html, and a warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import marl  # noqa: E402

project = "marl"
author = "the marl authors"
release = version = marl.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas are drawn without a network
    "modules",
    "options",
    "results",
    "zoo",
]
exclude_patterns = ["_ext", "studies/*/data", "performance/data"]
html_theme = "furo"
html_title = f"marl {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_copyright = False

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_use_type_comments = False  # there are none, and looking for them takes seconds
autodoc_inherit_docstrings = False  # of torch, its links lead nowhere here
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
suppress_warnings = ["ref.python"]  # a name that stands in two modules, such as `first`

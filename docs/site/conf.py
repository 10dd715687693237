"""The site that `make docs` builds from docs/: Sphinx, MyST and furo. Needs no network, and takes no warning.

The pages are Markdown as GitHub shows it. What a link leads to is checked twice: here, for the site, and by
tests/docs/test_links.py, for GitHub.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from worker_client.wire.version import __version__  # noqa: E402 - the path first

project = "onesession"
author = "the onesession authors"
copyright = author  # noqa: A001 - Sphinx's name for it
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "repository_links", "state_pictures"]
root_doc = "index"
exclude_patterns = ["README.md", "site", "examples"]
nitpicky = False  # types in signatures name NumPy and the standard library, which are not here to link to
smartquotes = False  # they would get into code in docstrings

# Headings get the names that GitHub gives them.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
myst_enable_extensions = ["fieldlist"]

# Docstrings are written with `single` backquotes around code.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"onesession {version}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

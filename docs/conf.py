"""How Sphinx builds these pages: ``sphinx-build -W docs build/docs``.

The pages are Markdown; those of ``reference/`` are written from the code before each build, too, so
that they cannot say anything else. With ``-W`` a link, an anchor or a name that leads nowhere is an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _generate  # noqa: E402  found beside this file

import sizeforensics  # noqa: E402

project = "sizeforensics"
version = release = sizeforensics.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = project
html_copy_source = html_show_copyright = html_show_sphinx = False
exclude_patterns = ["*.py"]

myst_heading_anchors = 3
nitpicky = True
# Names of Python and of other packages: their documentation is elsewhere.
nitpick_ignore_regex = [("py:.*", r"(?!sizeforensics\b).*")]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True


def _write_reference(app: Sphinx) -> None:
    _generate.write(Path(app.srcdir) / "reference")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", _write_reference)
    app.connect("autodoc-process-signature", _generate.without_constructor)
    app.connect("autodoc-process-docstring", _generate.without_alias)

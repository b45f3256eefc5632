"""The pages: `make site` builds them, without a network, from here and from the executed notebooks."""

import json

import latex2mathml.converter
from docutils.nodes import SkipNode

from adaswitch_lib import __version__

project, author, release = "AdaSwitch", "The authors of the AdaSwitch companion", __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "sphinx_book_theme"
html_title = "AdaSwitch, a reproducible companion"
html_show_copyright = html_show_sourcelink = False
html_math_renderer = "mathml"  # the usual one loads a script from elsewhere

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_excludepatterns = ["notebooks/*"]  # they come with their outputs
nb_execution_raise_on_error = True
nb_ipywidgets_js = {}
nb_render_markdown_format = "gfm"  # which has tables
suppress_warnings = ["mystnb.unknown_mime_type"]

napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures stay short; docstrings have shapes and units
autodoc_default_options = {"members": True}
default_role = "code"  # of `names` in docstrings


def _for_pages(app, name, source):
    """Links as files lie here; notebooks without the cells that set them up, and without pictures that would be fetched."""
    text = source[0].replace("](../docs/", "](../").replace("](../notebooks/", "](notebooks/")
    if name.startswith("notebooks/"):
        notebook = json.loads(text)
        notebook["cells"] = [cell for cell in notebook["cells"] if not _sets_up(cell)]
        for cell in notebook["cells"]:
            cell["source"] = [line for line in cell["source"] if not line.startswith("[![Binder]")]
        text = json.dumps(notebook)
    source[0] = text


def _sets_up(cell):
    """For Colab, or with what `make` passed."""
    return "google.colab" in "".join(cell["source"]) or "injected-parameters" in cell["metadata"].get("tags", [])


def _with_bars(app, what, name, obj, options, lines):
    """In docstrings |x| is an absolute value, no substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def _math(visitor, node):
    display = "block" if node.tagname == "math_block" else "inline"
    visitor.body.append(latex2mathml.converter.convert(node.astext(), display))
    raise SkipNode


def setup(app):
    app.connect("source-read", _for_pages)
    app.connect("autodoc-process-docstring", _with_bars)
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))

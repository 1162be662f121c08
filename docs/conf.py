"""How Sphinx builds the pages: ``sphinx-build -W -b html docs SITE`` (CONTRIBUTING.md)."""

import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from featpur_sim._version import __version__

project, author, copyright = "featpur_sim", "featpur_sim contributors", "featpur_sim contributors"
release = version = __version__

extensions = [
    "docstrings",
    "intervals",
    "mathml",
    "rooms",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["extensions", "_build"]
# A name that a page links to has to be there. Not looked at: what annotations name, and other
# projects, whose inventories may be out of reach.
nitpicky = True
nitpick_ignore_regex = [("py:(class|data|obj)", ".*"), ("py:.*", r"(?!featpur_sim).*")]

# Pages: Markdown with $formulas$, drawn as MathML by extensions/mathml.py.
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 4
myst_dmath_allow_space = False
html_math_renderer = "mathml"

# Tutorials are run when the site is built; a cell that fails fails the build.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would come from a CDN

# Docstrings: Google's sections; names in single backticks are links where Sphinx finds them.
default_role = "py:obj"
add_module_names = False  # the heading has it
autodoc_default_options = {"member-order": "bysource", "no-value": True}
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

html_theme = "pydata_sphinx_theme"
html_title = "featpur_sim"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "show_nav_level": 1,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _reachable(inventories: dict[str, str]) -> dict[str, tuple[str, None]]:
    """The inventories that can be read now: without network none, and no links into them."""
    found = {}
    for name, address in inventories.items():
        try:
            urllib.request.urlopen(f"{address}objects.inv", timeout=5).close()
        except OSError as error:
            print(f"no links into {name}: {error}")
        else:
            found[name] = (address, None)
    return found


intersphinx_mapping = _reachable(
    {
        "python": "https://docs.python.org/3/",
        "numpy": "https://numpy.org/doc/stable/",
        "jax": "https://docs.jax.dev/en/latest/",
        "xarray": "https://docs.xarray.dev/en/stable/",
        "optax": "https://optax.readthedocs.io/en/latest/",
        "matplotlib": "https://matplotlib.org/stable/",
    }
)

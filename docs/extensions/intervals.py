"""A Sphinx extension: "mean [low, high]" and "mean ± half" are not broken over two lines."""

import re

from docutils import nodes
from sphinx.application import Sphinx

_NUMBER = r"[-−+]?\d*\.?\d+"
_INTERVAL = re.compile(rf"(?:{_NUMBER} )?\[{_NUMBER}, {_NUMBER}\]|{_NUMBER} ± {_NUMBER}")


def _join(app: Sphinx, page: nodes.document, name: str) -> None:
    for text in list(page.findall(nodes.Text)):
        code = isinstance(text.parent, nodes.literal | nodes.literal_block | nodes.math)
        joined = _INTERVAL.sub(lambda match: match[0].replace(" ", "\u00a0"), text)
        if not code and joined != text:
            text.parent.replace(text, nodes.Text(joined))


def setup(app: Sphinx) -> dict:
    """Change the pages as they are written."""
    app.connect("doctree-resolved", _join)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

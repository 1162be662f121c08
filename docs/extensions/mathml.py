"""A Sphinx extension: formulas become MathML when the site is built, and pages need no script.

Pandoc draws them, all of a page in one call; its Python wheel brings the program along.
"""

import json
import re
from xml.etree import ElementTree

import pypandoc
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

# The version of pandoc's own format in which formulas are handed over.
_API = [1, 23]
_DRAWN = re.compile(r'<math .*?</math>|<span class="math.*?</span>', re.DOTALL)
_MATHML = "http://www.w3.org/1998/Math/MathML"
_PRIME = "′"
ElementTree.register_namespace("", _MATHML)
_log = logging.getLogger(__name__)


def _draw_page(app: Sphinx, page: nodes.document, name: str) -> None:
    _draw(list(page.findall(lambda node: isinstance(node, nodes.math | nodes.math_block))))


def _draw(found: list[nodes.Element]) -> None:
    if not found:
        return
    kinds = ["InlineMath" if isinstance(node, nodes.math) else "DisplayMath" for node in found]
    formulas = [
        {"t": "Para", "c": [{"t": "Math", "c": [{"t": kind}, node.astext()]}]}
        for kind, node in zip(kinds, found, strict=True)
    ]
    document = {"pandoc-api-version": _API, "meta": {}, "blocks": formulas}
    text = pypandoc.convert_text(json.dumps(document), "html", "json", ["--mathml"])
    for node, drawn in zip(found, _DRAWN.findall(text), strict=True):
        if drawn.startswith("<span"):
            _log.warning("pandoc cannot draw %s", node.astext(), location=node)
        else:
            drawn = _with_primes(drawn)
        node["drawn"] = drawn


def _with_primes(drawn: str) -> str:
    """x′ as two characters in a row: as a superscript the prime vanishes without a math font."""
    root = ElementTree.fromstring(drawn)
    for scripted in root.iter():
        kind = scripted.tag.removeprefix(f"{{{_MATHML}}}")
        if kind not in ("msup", "msubsup") or scripted[-1].text != _PRIME:
            continue
        base, *below, prime = list(scripted)
        prime.attrib.update(lspace="0", rspace="0")
        row = ElementTree.Element(f"{{{_MATHML}}}mrow")
        row.extend([base, prime])
        for child in list(scripted):
            scripted.remove(child)
        scripted.tag = f"{{{_MATHML}}}{'msub' if below else 'mrow'}"
        scripted.extend([row, *below])
    return ElementTree.tostring(root, encoding="unicode")


def _inline(self, node: nodes.Element) -> None:
    if "drawn" not in node:  # of a heading, in a table of contents
        _draw([node])
    self.body.append(node["drawn"])
    raise nodes.SkipNode


def _block(self, node: nodes.Element) -> None:
    # Wide formulas scroll on a phone; the page does not.
    self.body.append(f'<div class="formula">{node["drawn"]}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Offer the renderer that ``html_math_renderer = "mathml"`` names."""
    app.connect("doctree-resolved", _draw_page)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_inline, None), block_renderers=(_block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}

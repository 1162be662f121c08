"""A MkDocs hook: formulas become MathML when the site is built, so that pages need no script."""

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves behind (generic mode): \(...\) in a span, \[...\] in a div.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace every formula of a page."""

    def draw(match: re.Match[str]) -> str:
        tag, bracket, source = match.groups()
        display = "block" if bracket == "[" else "inline"
        formula = convert(html.unescape(source), display=display)
        return f'<{tag} class="formula">{formula}</{tag}>'

    return _FORMULA.sub(draw, content)

"""A Sphinx extension: docstrings as they are written here, for reStructuredText to read.

|z| and w* are formulas there, not substitutions and emphasis; a page is named by its path.
"""

import re

from sphinx.application import Sphinx

# Code in backticks, and examples, stay as they are.
_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_MARK = re.compile(r"\||(?<!\*)\*(?!\*)")
_EMPHASIS = re.compile(r"((?<![\w*])\*\w[^*]*\*(?![\w*]))")
# How classes of other projects call themselves, and the name in their documentation.
_NAMES = {
    r"~?(?:jax\.)?jaxlib\.\w+\.Array\b": "~jax.Array",
    r"(?<![\w.~])ndarray\b": "~numpy.ndarray",
    r"~?xarray\.core\.dataset\.Dataset\b": "~xarray.Dataset",
    r"~?xarray\.core\.dataarray\.DataArray\b": "~xarray.DataArray",
    r"~?matplotlib\.axes\._axes\.Axes\b": "~matplotlib.axes.Axes",
}
_PAGE = re.compile(r"\bdocs/([\w/-]+)\.md\b")


def _plain(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list) -> None:
    example = False
    for number, line in enumerate(lines):
        # The output of an example ends at an empty line.
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            lines[number] = _every_other(_CODE, line, _outside_code)


def _every_other(kept: re.Pattern[str], text: str, change) -> str:
    parts = kept.split(text)
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))


def _outside_code(text: str) -> str:
    escaped = _every_other(_EMPHASIS, text, lambda part: _MARK.sub(r"\\\g<0>", part))
    return _PAGE.sub(r":doc:`\g<0> </\1>`", escaped)


def _named(
    app: Sphinx, what: str, name: str, thing: object, options: object, *signature: str | None
) -> tuple[str | None, ...]:
    """Arguments and result, under the names that other projects' inventories have."""

    def rename(text: str | None) -> str | None:
        for pattern, known in _NAMES.items():
            text = text and re.sub(pattern, known, text)
        return text

    return tuple(map(rename, signature))


def _skip(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool:
    """Leave out the fields of named tuples: the signature has them."""
    return skip or str(getattr(thing, "__doc__", "")).startswith("Alias for field number")


def setup(app: Sphinx) -> dict:
    """Come before napoleon, which has priority 500."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _plain, priority=400)
    app.connect("autodoc-process-signature", _named)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

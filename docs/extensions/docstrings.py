"""A Sphinx extension: docstrings as they are written here, for reStructuredText to read.

|z| and w* are formulas there, not substitutions and emphasis.
"""

import re

from sphinx.application import Sphinx

# Code in backticks, and examples, stay as they are.
_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_MARK = re.compile(r"\||(?<!\*)\*(?!\*)")


def _plain(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list) -> None:
    if len(lines) and lines[0].startswith("Alias for field number"):
        lines.clear()
    example = False
    for number, line in enumerate(lines):
        # The output of an example ends at an empty line.
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = _CODE.split(line)
            lines[number] = "".join(
                part if place % 2 else _MARK.sub(r"\\\g<0>", part)
                for place, part in enumerate(parts)
            )


def setup(app: Sphinx) -> dict:
    """Come before napoleon, which has priority 500."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _plain, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

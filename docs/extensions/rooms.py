"""A Sphinx extension: a page of the reference names a room and shows all public modules in it.

A line ``{{ room featpur_sim.attacks }}`` becomes the room's docstring and one section for each of
its public modules, in alphabetical order, so that no module can be forgotten.
"""

import importlib
import pkgutil
import re

from sphinx.application import Sphinx

_LINE = re.compile(r"^\{\{ (room|module) (\S+) \}\}$", re.MULTILINE)


def _directive(module: str, *options: str) -> str:
    # Docstrings are reStructuredText, pages are MyST.
    inside = [f".. automodule:: {module}", *(f"   :{option}:" for option in options)]
    return "\n".join(["```{eval-rst}", *inside, "```", ""])


def _section(module: str) -> str:
    return f"## {module.rpartition('.')[2]}\n\n{_directive(module, 'members')}"


def _shown(match: re.Match[str]) -> str:
    kind, name = match.groups()
    if kind == "module":
        return _section(name)
    inside = pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}.")
    public = sorted(m.name for m in inside if not m.ispkg and "._" not in m.name[len(name) :])
    return "\n".join([_directive(name, "no-members"), *map(_section, public)])


def _expand(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = _LINE.sub(_shown, source[0])


def setup(app: Sphinx) -> dict:
    """Read the pages through `_expand`."""
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

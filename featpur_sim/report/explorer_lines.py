"""Lines of the theory that the explorer draws into a plane of two coordinates of a sweep."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim._ground.rows import Row
from featpur_sim.claims.diagram import window_lines
from featpur_sim.theory import predictions as theory

# Points of a curved line.
_DENSE = 80


def covered(result: xr.Dataset) -> bool:
    """Whether the predictions over (d, k, τ) are of this sweep: no study, and τ in ℓ2."""
    known = {"d", "k", "tau"} <= {*map(str, result.coords)}
    return known and not result.attrs.get("own") and result.attrs.get("norm", "l2") == "l2"


def lines(result: xr.Dataset) -> list[Row]:
    """The window's ends over d and k, and over k alone at each d; radii over k and τ at each d.

    Args:
        result: of a sweep.

    Returns:
        Each with ``label`` and ``source``; ``axes``, the names of the two coordinates, with
        ``points`` [[x, y], …], or of one, with a ``value`` at which the line is drawn across; and
        ``at``, the value of d that it belongs to, or None. Empty where
        the theory does not cover the sweep.
    """
    if not covered(result):
        return []
    d, k = np.unique(result.d.values.astype(float)), np.unique(result.k.values.astype(float))
    found = []
    along_d = np.unique(np.round(_around(d)))
    along_k = np.maximum(_around(k), 1)
    for label, ends in window_lines(along_d).items():
        name = f"window: {_words(label)}"
        found.append(_line(name, "[P?] §5.1", ["d", "k"], along_d, ends))
        for one, end in zip(d, window_lines(d)[label], strict=True):
            found.append({"label": name, "source": "[P?] §5.1", "axes": ["k"], "value": float(end)})
            found[-1]["at"] = float(one)
    pure = [theory.critical_radius(float(one)) for one in along_k]
    radii = np.array([one.value for one in pure])
    found.append(_line(f"purified nets: {pure[0].formula}", "[P]", ["k", "tau"], along_k, radii))
    for one in d:
        kept = along_k[along_k <= one]
        dense = [theory.dense_radius(int(one), float(k)) for k in kept]
        radii = np.array([one.value for one in dense])
        name = f"dense attack, clean nets: {dense[0].formula}"
        found.append(_line(name, dense[0].source, ["k", "tau"], kept, radii) | {"at": float(one)})
    return found


def _line(label: str, source: str, axes: list[str], x: NDArray, y: NDArray) -> Row:
    points = np.column_stack([x, y]).tolist()
    return {"label": label, "source": source, "axes": axes, "points": points, "at": None}


def _around(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """From well below the least to well above the largest, so that a line crosses the frame."""
    return np.geomspace(values[0] / 4, values[-1] * 4, _DENSE)


def _words(label: str) -> str:
    """A label of `window_lines` without LaTeX: k = d^{1/3} → k = d^(1/3)."""
    return label.replace("{", "(").replace("}", ")")

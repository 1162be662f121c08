"""Ticks at the values that were swept, labelled in full and never one over another.

All values get a tick. Which of them get a label depends on how wide the labels and the axis come
out, so the figure is laid out once to measure them.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

# Between two labels, in pixels of a figure of 100 dots per inch: about a third of a digit is 2.
_GAP = 4


def plain_numbers(values: ArrayLike) -> list[str]:
    """Numbers as text: whole ones in full, others with as few digits as tell them apart.

    An error of a twentieth of the smallest distance, and of 0.2 % of the value, goes unseen; a
    settings file has six digits.

    >>> plain_numbers([64, 1024, 2048])
    ['64', '1024', '2048']
    >>> plain_numbers([0.1, 0.2, 0.45])
    ['0.1', '0.2', '0.45']
    >>> plain_numbers([0.1, 0.1005, 0.101])
    ['0.1', '0.1005', '0.101']
    """
    numbers = np.asarray(values, float)
    distances = np.diff(np.unique(numbers))
    unseen = 0.002 * np.abs(numbers)
    if len(distances):
        unseen = np.minimum(unseen, 0.05 * distances.min())
    texts = []
    for digits in range(1, 7):
        texts = [f"{v:.0f}" if v == round(v) else f"{v:.{digits}g}" for v in numbers.tolist()]
        if (np.abs(np.array(texts, float) - numbers) <= unseen).all():
            break
    return texts


def label_values(figure: Figure, axes: Sequence[Axis], values: Sequence[ArrayLike]) -> None:
    """Put ticks at the values of each axis, and labels at as many as fit, the ends first.

    Args:
        figure: drawn but for these ticks; it is laid out again.
        axes: of the figure.
        values: one array per axis.
    """
    known = [np.unique([float(f"{v:.6g}") for v in np.ravel(some)]) for some in values]
    texts = [plain_numbers(some) for some in known]
    for axis, some, text in zip(axes, known, texts, strict=True):
        axis.set_ticks(some.tolist(), labels=text)
        axis.set_ticks([], minor=True)
    figure.draw_without_rendering()
    for axis, some, text in zip(axes, known, texts, strict=True):
        kept = _fitting(axis)
        axis.set_ticks(some.tolist(), labels=[t if i in kept else "" for i, t in enumerate(text)])
    figure.draw_without_rendering()


def _fitting(axis: Axis) -> set[int]:
    """Which labels to keep so that none touches another: evenly, first and last before others."""
    boxes = [label.get_window_extent() for label in axis.get_majorticklabels()]
    side = "intervalx" if isinstance(axis, XAxis) else "intervaly"
    ends = np.array([getattr(box, side) for box in boxes])
    centres = ends.mean(axis=1)
    kept, left = [0], set(range(1, len(ends)))
    while left:
        # The next is the one farthest from all that are kept.
        apart = {i: np.abs(centres[i] - centres[kept]).min() for i in left}
        last = len(ends) - 1
        chosen = last if last in left else max(sorted(left), key=apart.__getitem__)
        left.remove(chosen)
        low, high = ends[chosen, 0] - _GAP, ends[chosen, 1] + _GAP
        if all(high <= ends[k, 0] or low >= ends[k, 1] for k in kept):
            kept.append(chosen)
    return set(kept)

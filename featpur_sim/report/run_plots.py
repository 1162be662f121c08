"""``run.plot``: the figures of one run on Axes of the user's, or on new ones.

Lines, bands and colours are those of the run's figures (`featpur_sim.report.run_figures`); sizes
and fonts are those of the user's matplotlib settings.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr
from matplotlib.axes import Axes

from featpur_sim._ground.checks import ConfigError
from featpur_sim.report import both_sides_figure, run_figures, weights_figure
from featpur_sim.report._style import GREY, PHASES, to_average

ALONG = "along_"


class Plots:
    """What can be drawn of one run; every method returns the Axes.

    ``ax=None`` makes a new pyplot figure, which a notebook shows. Seeds that did not finish are
    left out; bands are 95 % t-intervals over the others.
    """

    def __init__(self, result: xr.Dataset):
        self._result = result

    def __repr__(self) -> str:
        return (
            "plot.both_sides(), .robust_accuracy(), .weights(), .trajectory(variable), "
            ".dense_margin(), .surgery(), .overlaps(), .update_spectrum(), .accuracy_along()"
        )

    def both_sides(self, ax: Axes | None = None) -> Axes:
        """Certified and attacked accuracy against radius, and the gap that holds the true one.

        Args:
            ax: where; None makes a new figure.

        Raises:
            ValueError: no seed finished.
        """
        seeds, axes = to_average(self._result), axes_or_new(ax)
        both_sides_figure.draw(axes, seeds)
        if "certified_accuracy" in seeds:
            # No corner is free; beside Axes of the user's others may stand.
            beside = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
            axes.legend(**(beside if ax is None else {"fontsize": "small"}))
        return axes

    def robust_accuracy(self, ax: Axes | None = None, attack: str = "PGD") -> Axes:
        """Accuracy under one attack against radius (an upper bound on robust accuracy).

        Args:
            ax: where; None makes a new figure.
            attack: one of ``run.data.attack``.

        Raises:
            ConfigError: the run has no such attack.
            ValueError: no seed finished.
        """
        seeds = to_average(self._result)
        _require("attack", attack, list(map(str, seeds.attack.values)))
        axes = axes_or_new(ax)
        run_figures.draw_accuracy(axes, seeds, attack)
        axes.set_title(attack, loc="left")
        axes.set_xlabel("attack radius τ (units of x)")
        axes.set_ylabel("accuracy")
        axes.legend()
        return axes

    def weights(self, ax: Axes | None = None, phase: str = "adversarial") -> Axes:
        """The weights of some neurons of the first seed, feature by feature.

        A dense mixture is a background of one colour, a pure neuron one dark cell. The colours
        mean the same for every phase.

        Args:
            ax: where; None makes a new figure.
            phase: ``"init"``, ``"clean"`` or ``"adversarial"``: after which they are shown.

        Raises:
            ConfigError: there is no such phase.
            ValueError: no seed finished.
        """
        seeds = to_average(self._result)
        _require("phase", phase, list(PHASES))
        axes = axes_or_new(ax)
        image = weights_figure.draw(axes, self._result, seeds, phase)
        axes.set_xlabel("feature j")
        bar = axes.figure.colorbar(image, ax=axes, extend="both")
        bar.set_label(weights_figure.COLOURS)
        return axes

    def dense_margin(self, ax: Axes | None = None, phase: str = "clean") -> Axes:
        """Margins along the dense direction: the median, and the tenth on either side as a band.

        Args:
            ax: where; None makes a new figure.
            phase: ``"init"``, ``"clean"`` or ``"adversarial"``: whose.

        Raises:
            ConfigError: there is no such phase.
            ValueError: no seed finished.
        """
        _require("phase", phase, list(PHASES))
        axes = self._drawn(partial(run_figures.draw_dense_margin, phase=phase), ax)
        axes.set_xlabel("radius along the dense direction (units of x)")
        axes.set_ylabel("y f(x + δ) / median y f(x)")
        return axes

    def surgery(self, ax: Axes | None = None) -> Axes:
        """Accuracies with dense mixtures cut out of, and put into, the networks.

        Args:
            ax: where; None makes a new figure.

        Raises:
            ValueError: no seed finished.
        """
        return self._drawn(run_figures.draw_surgery, ax)

    def overlaps(self, ax: Axes | None = None) -> Axes:
        """Histograms of the overlaps θ of a neuron's weights between stages of training.

        Args:
            ax: where; None makes a new figure.

        Raises:
            ValueError: no seed finished.
        """
        return self._drawn(run_figures.draw_overlaps, ax)

    def update_spectrum(self, ax: Axes | None = None, *, cumulative: bool = False) -> Axes:
        """Singular values of the change that purification makes.

        Args:
            ax: where; None makes a new figure.
            cumulative: the share of the squared norm that the leading ones hold instead.

        Raises:
            ValueError: no seed finished.
        """
        return self._drawn(partial(run_figures.draw_spectrum, cumulative=cumulative), ax)

    def accuracy_along(self, ax: Axes | None = None) -> Axes:
        """PGD accuracy at τ along the adversarial phase, beside the pure network's.

        Args:
            ax: where; None makes a new figure.

        Raises:
            ValueError: no seed finished.
        """
        return self._drawn(run_figures.draw_accuracy_along, ax)

    def _drawn(self, draw: Callable[[Axes, xr.Dataset], None], ax: Axes | None) -> Axes:
        seeds, axes = to_average(self._result), axes_or_new(ax)
        draw(axes, seeds)
        axes.legend()
        return axes

    def trajectory(self, variable: str, ax: Axes | None = None) -> Axes:
        """What was recorded along both phases of training.

        Args:
            variable: a variable ``along_<name>`` of ``run.data``, by its name:
                ``"kappa_over_alpha"``, ``"accuracy"``, or one that an own observer gave.
            ax: where; None makes a new figure.

        Raises:
            ConfigError: nothing of this name was recorded.
            ValueError: no seed finished.
        """
        seeds = to_average(self._result)
        name = str(variable).removeprefix(ALONG)
        recorded = [
            str(key).removeprefix(ALONG)
            for key, values in seeds.items()
            if str(key).startswith(ALONG) and set(values.dims) == {"seed", "record"}
        ]
        _require("variable", name, recorded)
        axes = axes_or_new(ax)
        run_figures.draw_along(axes, seeds, name)
        axes.axvline(run_figures.steps(seeds)[1], color=GREY, linewidth=0.8)
        axes.set_xlabel("training step")
        axes.set_ylabel(name)
        axes.legend()
        return axes


def axes_or_new(ax: Any) -> Axes:
    """The given Axes, or those of a new pyplot figure.

    Raises:
        ConfigError: ``ax`` is something else.
    """
    if ax is None:
        # Late, and only here: pyplot holds the user's figures, and a notebook shows those.
        from matplotlib import pyplot

        return pyplot.subplots(layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise ConfigError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}.")
    return ax


def _require(name: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} = {value!r}: must be one of {', '.join(known)}.")

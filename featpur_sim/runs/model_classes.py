"""What is proved about each class of models at the settings of a run (docs/theory.md §6).

A class is *proved below this network* if a bound that holds for every member lies below what the
run's own network is certified for at the same radius. A bound below 1 that does not is *bounded,
not separated*. A class is a *counterexample* if some member is proved robust on more than half of
the samples, ½ being what a constant scores. Otherwise the figure is that of the *measured best
member*, which an attack bounds from above and better training may raise. Nothing here trains or
attacks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from featpur_sim._ground.rows import Row
from featpur_sim.runs.config import RunConfig
from featpur_sim.statistics import wilson_interval
from featpur_sim.theory import box_bounds as boxes
from featpur_sim.theory import class_bounds as bounds
from featpur_sim.theory.witnesses import (
    cubic_witness,
    witness_box_accuracy,
    witness_robust_accuracy,
)
from featpur_sim.training.competitors import AFFINE, DEGREES, LINEAR, NTK_LIMIT, polynomial_class

PROVED = "proved below this network"
BOUNDED = "bounded, not separated"
MEASURED = "measured best member"
COUNTEREXAMPLE = "counterexample"
# Classes that are not competitors but what they are held against.
PURE, CLEAN, PURIFIED = "pure network", "two-layer network, clean", "two-layer network, adversarial"


def class_bound(
    model_class: str, config: RunConfig, radius: float, *, dense_norm: float = 1.0
) -> float | None:
    """An upper bound on the robust accuracy of every member, or None where none is proved.

    Args:
        model_class: as in compare.json.
        config: of the run; the bounds need the two-level law, or in ℓ2 its Gaussian twin.
        radius: > 0, in the norm of the run.
        dense_norm: ‖Mw*‖_∞ of the network's problem, which ℓ∞ sees; 1 for M = I.
    """
    p = config.problem
    if config.adversarial.norm == "linf":
        return _box_bound(model_class, config, radius, dense_norm)
    if p.law == "gaussian-twin":
        twin = bounds.gaussian_twin_bound(p.d, p.sigma_x, radius, p_one=p.p_one)
        return twin.bound
    proved: dict[str, Callable[..., bounds.ClassBound]] = {
        LINEAR: bounds.linear_bound,
        AFFINE: bounds.affine_bound,
        polynomial_class(2): bounds.quadratic_bound,
    }
    if p.law != "two-level" or model_class not in proved:
        return None
    return proved[model_class](p.d, p.k, p.sigma_x, radius, p_one=p.p_one).bound


def _box_bound(
    model_class: str, config: RunConfig, radius: float, dense_norm: float
) -> float | None:
    """The same in ℓ∞: a linear bound, and what P1 makes of it."""
    p = config.problem
    with_linear_part = (LINEAR, AFFINE, polynomial_class(2))
    if p.law != "two-level" or model_class not in with_linear_part:
        return None
    at = p.d, p.k, p.sigma_x, radius
    if p.dictionary == "identity":
        linear = boxes.linear_box_bound(*at, p_one=p.p_one)
    else:
        linear = bounds.linear_linf_bound(*at, dense_norm, p_one=p.p_one)
    return (linear if model_class == LINEAR else boxes.odd_part_bound(linear, model_class)).bound


def witness_floor(config: RunConfig, radius: float, *, n: int = 2000) -> float:
    """Lower end of the 95 % interval of the cubic's certified robust accuracy. [D] §6, P3, N2

    The cubic is a member of every class of polynomials of odd degree ≥ 3, and its sign is a member
    of the tangent kernel at infinite width. 0 where nothing is certified: for laws other than the
    two-level one, and in ℓ∞ for dictionaries other than the identity.

    Args:
        config: of the run.
        radius: > 0, in the norm of the run.
        n: samples.
    """
    p = config.problem
    in_box = config.adversarial.norm == "linf"
    if p.law != "two-level" or (in_box and p.dictionary != "identity"):
        return 0.0
    at, drawn = (p.d, p.k, p.sigma_x, radius), {"n": n, "seed": config.seed}
    if in_box:
        kept = witness_box_accuracy(cubic_witness(), *at, p_one=p.p_one, **drawn)
    else:
        kept = witness_robust_accuracy(cubic_witness(), *at, p_one=p.p_one, **drawn).lower
    return wilson_interval(round(kept * n), n)[0]


class Separation(NamedTuple):
    """A class and the run's network, told apart by proof at one radius."""

    radius: float
    bound: float
    """No member of the class exceeds it."""
    certified: float
    """The fraction of the points on which the network is certified."""
    floor: float
    """Its exact lower limit, above ``bound``."""


def separations(curve: Sequence[Row], certified: Sequence[Row]) -> list[Separation] | None:
    """Where a class is proved below the network; None where there is nothing to compare.

    Args:
        curve: of a row of compare.json.
        certified: that of the purified network. Its ``certified_floor`` is Clopper and Pearson's
            limit at level 1 − 0.05/R for R radii (Bonferroni), so that all separations hold
            together with probability 0.95 over the points; the bounds are theorems.
    """
    floors = {p["radius"]: p for p in certified if "certified_floor" in p}
    both = [
        Separation(p["radius"], p["class_bound"], at["certified"], at["certified_floor"])
        for p in curve
        if p["class_bound"] is not None and (at := floors.get(p["radius"]))
    ]
    return [one for one in both if one.bound < one.floor] if both else None


def label(model_class: str, bound: float | None, floor: float, *, separated: bool) -> str:
    """One of the four words of the module's heading.

    Args:
        model_class: as in compare.json.
        bound: `class_bound` at τ.
        floor: `witness_floor` at τ.
        separated: whether the bound lies below the network's certificate at τ.

    >>> label("linear", 0.8, floor=0.6, separated=False)
    'bounded, not separated'
    >>> label("polynomials of degree 3", None, floor=0.6, separated=False)
    'counterexample'
    """
    if bound is not None and bound < 1:
        return PROVED if separated else BOUNDED
    with_cubic = {polynomial_class(q) for q in DEGREES if q >= 3} | {NTK_LIMIT}
    return COUNTEREXAMPLE if model_class in with_cubic and floor > 0.5 else MEASURED

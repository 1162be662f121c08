"""What is proved about each class of models at the settings of a run (docs/theory.md §6).

A class is *proved class-wide* if a bound below 1 holds for every member at this size. It is a
*counterexample* if some member is proved robust on more than half of the samples, ½ being what a
constant scores. Otherwise the figure is that of the *measured best member*, which an attack bounds
from above and better training may raise. Nothing here trains or attacks.
"""

from collections.abc import Callable

from featpur_sim.runs.config import RunConfig
from featpur_sim.statistics import wilson_interval
from featpur_sim.theory import class_bounds as bounds
from featpur_sim.theory.witnesses import cubic_witness, witness_robust_accuracy
from featpur_sim.training.competitors import AFFINE, DEGREES, LINEAR, NTK_LIMIT, polynomial_class

PROVED = "proved class-wide"
MEASURED = "measured best member"
COUNTEREXAMPLE = "counterexample"
# Classes that are not competitors but what they are held against.
PURE, CLEAN, PURIFIED = "pure network", "two-layer network, clean", "two-layer network, adversarial"


def class_bound(model_class: str, config: RunConfig, radius: float) -> float | None:
    """An upper bound on the ℓ2 robust accuracy of every member, or None where none is proved.

    Args:
        model_class: as in compare.json.
        config: of the run; the bounds need the two-level law, or its Gaussian twin.
        radius: τ > 0.
    """
    p = config.problem
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


def witness_floor(config: RunConfig, radius: float, *, n: int = 2000) -> float:
    """Lower end of the 95 % interval of the cubic's certified robust accuracy. [D] §6, P3, N2

    The cubic is a member of every class of polynomials of odd degree ≥ 3, and its sign is a member
    of the tangent kernel at infinite width. 0 for laws other than the two-level one.

    Args:
        config: of the run.
        radius: τ > 0, ℓ2.
        n: samples.
    """
    p = config.problem
    if p.law != "two-level":
        return 0.0
    score = witness_robust_accuracy(
        cubic_witness(), p.d, p.k, p.sigma_x, radius, p_one=p.p_one, n=n, seed=config.seed
    )
    return wilson_interval(round(score.lower * n), n)[0]


def label(model_class: str, bound: float | None, floor: float) -> str:
    """One of the three words of the module's heading.

    >>> label("linear", 0.8, floor=0.6), label("polynomials of degree 3", None, floor=0.6)
    ('proved class-wide', 'counterexample')
    """
    if bound is not None and bound < 1:
        return PROVED
    with_cubic = {polynomial_class(q) for q in DEGREES if q >= 3} | {NTK_LIMIT}
    return COUNTEREXAMPLE if model_class in with_cubic and floor > 0.5 else MEASURED

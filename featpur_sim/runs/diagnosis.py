"""Whether a seed's training worked, by stated rules, and which seeds count.

The rules, with the argument for each threshold, are in docs/claims.md. Every command asks here:
a seed whose ``status`` is not ``ok`` is in no mean and no interval, and is counted and named.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from featpur_sim.runs.folder import ResultError

OK, UNTRAINED = "ok", "untrained"

CHANCE = math.log(2)
"""The logistic loss of f = 0, which knows nothing. [D]"""
NO_FALL = 0.9
"""Clean training that ends above this share of the chance level has not learned. [M]"""
CLOSED = 0.1
"""Fewer open gates than this share of k/d, those of a neuron with one feature, are too few. [D]"""
RESTLESS = 0.25
"""A last loss this far from the median of the phase's last fifth of records still moves. [M]"""


class Diagnosis(NamedTuple):
    """Per seed, text [S]."""

    status: NDArray[np.str_]
    """``ok``, ``dead``, ``diverged``, or ``untrained``: trained to the end, and it did not work."""
    reason: NDArray[np.str_]
    """Why a seed is not ok; empty for one that is."""
    warning: NDArray[np.str_]
    """What to keep in mind about a seed that counts; empty if nothing."""


def diagnose(
    ended: Sequence[str],
    since: ArrayLike,
    record_phase: NDArray,
    records: Mapping[str, NDArray],
    sparsity: ArrayLike,
) -> Diagnosis:
    """Judge how the training of S seeds went.

    Args:
        ended: ``ok``, ``dead`` or ``diverged``, [S].
        since: step at which that status began, [S].
        record_phase: phase of each record, [R].
        records: what was recorded, [R, S] each: ``loss`` on held-out clean samples and ``status``
            (0: ok); the rules on ``active_fraction`` and ``kappa_over_alpha`` apply where they are.
        sparsity: k/d, a number or [S].
    """
    shares = np.broadcast_to(np.asarray(sparsity, float), len(ended))
    status, reasons, warnings = [], [], []
    for s, how in enumerate(ended):
        own = {name: np.asarray(values)[:, s] for name, values in records.items()}
        if how != OK:
            phase = record_phase[_first_failed(own["status"])]
            reason = f"{how} since step {int(np.asarray(since)[s])} of the {phase} phase"
        else:
            reason = _failure(record_phase, own, shares[s])
            how = UNTRAINED if reason else OK
        status.append(how)
        reasons.append(reason)
        warnings.append("" if reason else _restless(record_phase, own["loss"]))
    return Diagnosis(np.array(status), np.array(reasons), np.array(warnings))


def _first_failed(status: NDArray) -> int:
    others = np.flatnonzero(status != status[-1])
    return int(others[-1] + 1) if len(others) else 0


def _failure(phase: NDArray, own: Mapping[str, NDArray], sparsity: float) -> str:
    """Why a seed that trained to the end did not learn; empty if it did."""
    for name in ("clean", "adversarial"):
        ends = np.flatnonzero(phase == name)
        if not len(ends):
            continue
        last = ends[-1]
        loss = float(own["loss"][last])
        if not loss < CHANCE:
            return (
                f"the loss after the {name} phase, {loss:.3g}, is not below chance level, "
                f"log 2 = {CHANCE:.3f}"
            )
        if name == "clean" and loss > NO_FALL * CHANCE:
            return (
                f"the loss did not fall: {loss:.3g} after the clean phase, more than {NO_FALL:g} "
                f"of chance level, log 2 = {CHANCE:.3f}"
            )
        if "kappa_over_alpha" in own and not np.isfinite(own["kappa_over_alpha"][last]):
            return f"no neuron carries a feature after the {name} phase"
        active = float(own["active_fraction"][last]) if "active_fraction" in own else math.inf
        if active < CLOSED * sparsity:
            return (
                f"most neurons are dead after the {name} phase: {active:.2g} of the gates are "
                f"open, less than {CLOSED:g}·k/d = {CLOSED * sparsity:.2g}"
            )
    return ""


def _restless(phase: NDArray, loss: NDArray) -> str:
    for name in ("clean", "adversarial"):
        own = loss[phase == name]
        tail = own[-max(len(own) // 5, 3) :]
        if len(own) < 3:
            continue
        usual = float(np.median(tail))
        if abs(own[-1] - usual) > RESTLESS * usual:
            return (
                f"the {name} phase is not at rest: its last loss, {own[-1]:.3g}, is more than "
                f"{RESTLESS:.0%} from the median of its last records, {usual:.3g}"
            )
    return ""


def finished(result: xr.Dataset) -> NDArray[np.bool_]:
    """Which seeds of a run count: those with ``status`` ok, [seed]; of a sweep [point, seed]."""
    status = result.status
    if "point" in status.dims:
        status = status.transpose("point", "seed")
    return np.asarray(status.values == OK)


def require_finished(result: xr.Dataset) -> NDArray[np.bool_]:
    """`finished`, if any seed is.

    Raises:
        ResultError: training failed in every seed, so that there is no network to look at.
    """
    used = finished(result)
    if not used.any():
        raise ResultError(
            f"no seed of this run finished, so there is no network to look at: "
            f"{'; '.join(left_out(result))}. Lower learning_rate or the final bias, or train "
            "longer, and run again."
        )
    return used


def only_finished(result: xr.Dataset) -> xr.Dataset:
    """The seeds of a run that count, and nothing of the others.

    Examples transferred to a seed from one that does not count are NaN: seed s is attacked with
    those made on seed s − 1, the first with those of the last.

    Raises:
        ResultError: training failed in every seed.
    """
    used = require_finished(result)
    if "attack" in result.coords and "transfer" in result.attack:
        own = xr.DataArray(np.roll(used, 1), dims="seed") | (result.attack != "transfer")
        result = result.assign(robust_accuracy=result.robust_accuracy.where(own))
    return result.isel(seed=used)


def left_out(result: xr.Dataset) -> list[str]:
    """The seeds that do not count, each with the reason.

    >>> import xarray as xr
    >>> left_out(xr.Dataset({"status": ("seed", ["ok", "dead"])}, {"seed": [1, 2]}))
    ['seed 2 (dead)']
    """
    status = result.status.values
    reasons = result.reason.values if "reason" in result else status
    return [
        f"seed {seed} ({reason or how})"
        for seed, how, reason in zip(result.seed.values, status, reasons, strict=True)
        if how != OK
    ]


def count(result: xr.Dataset, used: int | None = None) -> str:
    """How many seeds a number is of, and what became of the others.

    Args:
        result: of a run.
        used: seeds that the number is of; by default all that finished.

    >>> import xarray as xr
    >>> count(xr.Dataset({"status": ("seed", ["ok", "dead", "dead"])}))
    '1 of 3; 2 dead'
    """
    number = int(finished(result).sum()) if used is None else used
    return "; ".join([f"{number} of {result.sizes['seed']}", *_failed(result)])


def in_words(result: xr.Dataset) -> str:
    """`count` within a sentence.

    >>> import xarray as xr
    >>> in_words(xr.Dataset({"status": ("seed", ["ok", "dead"])}))
    '1 of 2 seeds (1 dead)'
    >>> in_words(xr.Dataset({"status": ("seed", ["ok"])}))
    '1 seed'
    """
    total = result.sizes["seed"]
    seeds = "1 seed" if total == 1 else f"{total} seeds"
    failed = ", ".join(_failed(result))
    return f"{int(finished(result).sum())} of {seeds} ({failed})" if failed else seeds


def _failed(result: xr.Dataset) -> list[str]:
    """How many seeds failed, by how."""
    others = Counter(how for how in result.status.values.tolist() if how != OK)
    return [f"{n} {how}" for how, n in others.items()]

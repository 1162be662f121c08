"""Both sides of many networks and radii, in the order that decides most first (docs/theory.md §8).

The work is a row of stages; each goes over all networks before the next begins:

1. ``cheap``: the quick attack, the linear relaxation and Q1, a chunk of points at a time;
2. ``attack``: the protocol asked for, where it is another, on the points left open;
3. ``q2``: on what is still open, eight points of one network at a time;
4. ``branch``: branch and bound, point by point;
5. ``check``: the protocol on points that were certified without it. It decides nothing: one that
   broke would be a contradiction.

Q2 and branch and bound take the points with the largest lower bound first, so that what stays open
when time runs out is the hardest. A stage's list of tasks is fixed when it begins, and a task is
done whole or not at all: stopping and going on leave the same bits as never stopping.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim.attacks._search import SMALL
from featpur_sim.attacks.protocol import QUICK, Attacked, Protocol
from featpur_sim.certify import Contradiction
from featpur_sim.certify.q2 import BATCH
from featpur_sim.measure.both_sides import CHEAP, Sandwich, Squeeze
from featpur_sim.runs.budget import Budget

STAGES = ("cheap", "attack", "q2", "branch", "check")
# Points in a task of each stage; an attack's batch is padded to a multiple of SMALL anyway.
_SIZE = {"cheap": 4 * SMALL, "attack": SMALL, "q2": BATCH, "branch": 1, "check": 4 * SMALL}


@dataclass(frozen=True)
class Part:
    """One network at one radius.

    Attributes:
        seed: number of the run's seed, from 1.
        phase: which network of that seed.
        relative: radius in units of the training radius.
        squeeze: what is known about its points.
    """

    seed: int
    phase: str
    relative: float
    squeeze: Squeeze


class Campaign:
    """Works through the stages; ``saved`` is called after every task.

    Args:
        parts: all with the same number of points, the same stages and the same effort.
        protocol: the attack that the results are to name.
        budget: no task is begun that does not fit into what is left, by those timed so far.
        meter: told of the points of a stage as they get done.
    """

    def __init__(
        self,
        parts: list[Part],
        protocol: Protocol,
        budget: Budget,
        meter: Meter = SILENT,
    ):
        self.parts, self.protocol, self.budget = parts, protocol, budget
        self.meter = meter
        self.saved: Callable[[], None] = lambda: None
        count = len(parts[0].squeeze.points)
        asked = parts[0].squeeze.stages
        thorough = protocol != QUICK
        self.stages = ["cheap"]
        self.stages += ["attack"] * thorough
        self.stages += [name for name in ("q2", "branch") if name in asked]
        self.stages += ["check"] * thorough
        # Which points have been through each stage; "check" fills in where "attack" did not look.
        self.seen = {name: np.zeros((len(parts), count), bool) for name in STAGES[:4]}
        self.warnings: list[dict[str, str]] = [{} for _ in parts]
        self.stage, self.done = 0, 0
        self.plan = self._plan()

    # The list of tasks

    def _plan(self) -> np.ndarray:
        """(part, point) of the present stage's points, in order, [k, 2]."""
        if self.stage == len(self.stages):
            return np.zeros((0, 2), int)
        name = self.stages[self.stage]
        if name == "cheap":
            size, shape = _SIZE[name], self.seen["cheap"].shape
            part, point = np.indices(shape).reshape(2, -1)
            order = np.lexsort((point, part, point // size))
        else:
            squeezed = [part.squeeze for part in self.parts]
            if name == "check":
                wanted = [(s.lower > 0) & ~self.seen["attack"][p] for p, s in enumerate(squeezed)]
            else:
                wanted = [s.open for s in squeezed]
            part, point = np.nonzero(np.stack(wanted))
            rank = -np.stack([s.lower for s in squeezed])[part, point]
            own = np.lexsort((point, rank, part))
            part, point, rank = part[own], point[own], rank[own]
            # A task goes where its first point does.
            place = np.arange(len(part)) - np.searchsorted(part, part)
            first = np.arange(len(part)) - place % _SIZE[name]
            order = np.lexsort((place, part, rank[first]))
        return np.stack([part[order], point[order]], axis=1)

    def _tasks(self) -> Iterator[tuple[Part, int, np.ndarray]]:
        """What is left of the present stage: (part, its place, points)."""
        size = _SIZE[self.stages[self.stage]]
        at = self.done
        while at < len(self.plan):
            place = int(self.plan[at, 0])
            ahead = self.plan[at : at + size]
            length = int(np.argmax(np.append(ahead[:, 0], -1) != place))
            yield self.parts[place], place, ahead[:length, 1]
            at += length

    # The work

    def run(self) -> bool:
        """Work until everything is done or the budget is spent; True if everything is done."""
        while self.stage < len(self.stages):
            # Seconds of the tasks yet. The quickest counts, for the first may have compiled; so two
            # are begun whenever time is left, and the budget is overrun by one task at most.
            name, costs = self.stages[self.stage], []
            for part, place, index in self._tasks():
                self.tell()
                if not self.budget.holds(min(costs) if len(costs) > 1 else 0.0):
                    return False
                began = self.budget.clock()
                with _named(part):
                    whole = self._work(name, part, place, index)
                if not whole:
                    # Others get their turn before this one when the command is given again.
                    rest = self.plan[self.done :]
                    self.plan[self.done :] = np.roll(rest, -len(index), axis=0)
                    return False
                # A point's branch and bound can be cut short; a task of the others cannot.
                costs.append(0.0 if name == "branch" else self.budget.clock() - began)
                self.done += len(index)
                self.tell()
                self.saved()
            self.stage, self.done = self.stage + 1, 0
            self.plan = self._plan()
        return True

    def tell(self) -> None:
        """Tell the meter how far the present stage is, if there is one."""
        if self.stage < len(self.stages) and len(self.plan):
            name = self.stages[self.stage]
            self.meter.at(f"certificates {name}", self.done, len(self.plan))

    def _work(self, name: str, part: Part, place: int, index: np.ndarray) -> bool:
        """One task; False if time ran out in it, and then it left nothing behind."""
        squeeze = part.squeeze
        if name == "cheap":
            self._warn(place, _cheap(squeeze, index))
            squeeze.evaluated["attack"] += len(index)
        elif name == "check":
            self._warn(place, squeeze.attack(self.protocol, index))
        elif name == "attack":
            start = squeeze.minimiser[index]
            self._warn(place, squeeze.attack(self.protocol, index, start))
        elif not self._settle(name, squeeze, index):
            return False
        self.seen["attack" if name == "check" else name][place, index] = True
        return True

    def _warn(self, place: int, found: Attacked) -> None:
        for sentence in found.warnings:  # one of each kind; chunks differ in their percentages
            self.warnings[place].setdefault(sentence.split(":")[0], sentence)

    def _settle(self, name: str, squeeze: Squeeze, index: np.ndarray) -> bool:
        """Q2, or branch and bound; False if time ran out in it."""

        def stop() -> bool:
            return name == "branch" and not self.budget.holds(0.0)

        return squeeze.certify((name,), index, stop=stop, protocol=self.protocol) is not None

    def estimate(self) -> float:
        """Seconds that the rest of the cheap stages will take; of a short sample, thrown away.

        Compiles what they need. 0 if they are done.
        """
        if self.stage or self.done >= len(self.plan):
            return 0.0
        part, _, index = next(self._tasks())
        index, seconds = index[:SMALL], 0.0
        for _ in range(2):  # the first compiles
            began = self.budget.clock()
            with _named(part):
                _cheap(part.squeeze.anew(index, part.squeeze.radius), np.arange(len(index)))
            seconds = self.budget.clock() - began
        return seconds * (len(self.plan) - self.done) / len(index)

    # What is known

    def waiting(self, place: int) -> dict[str, int]:
        """Points of a part that wait for each stage; ``spent``: open after all of them."""
        squeeze = self.parts[place].squeeze
        left, found = squeeze.open.copy(), {}
        for name in self.stages:
            if name == "check":
                certified = (squeeze.lower > 0) & squeeze.standing
                found[name] = int((certified & ~self.seen["attack"][place]).sum())
                continue
            here = left & ~self.seen[name][place]
            found[name] = int(here.sum())
            left &= ~here
        return found | {"spent": int(left.sum())}

    def sandwich(self, place: int) -> Sandwich:
        """Both sides of a part, as known by now."""
        protocol = f"{self.protocol.name}/{self.protocol.version}"
        warnings = list(self.warnings[place].values())
        return self.parts[place].squeeze.sandwich([], warnings, protocol)

    def pack(self) -> dict[str, np.ndarray]:
        """All of that as plain arrays."""
        squeezed = [part.squeeze for part in self.parts]
        opened = np.argwhere(np.stack([s.open for s in squeezed]))
        dual = [(p, i) for p, s in enumerate(squeezed) for i in s.dual]
        kinds = [(p, k, text) for p, own in enumerate(self.warnings) for k, text in own.items()]
        width, size = squeezed[0].problem.weights.shape
        arrays = {name: np.stack([getattr(s, name) for s in squeezed]) for name in _FIELDS}
        arrays |= {f"seen_{name}": flags for name, flags in self.seen.items()}
        arrays |= {
            "opened": opened,
            "minimiser": np.array([squeezed[p].minimiser[i] for p, i in opened]).reshape(-1, size),
            "dual_of": np.array(dual, int).reshape(-1, 2),
            "dual": np.array([squeezed[p].dual[i] for p, i in dual]).reshape(-1, 2, width),
            "seconds": np.array([list(s.seconds.values()) for s in squeezed]),
            "evaluated": np.array([list(s.evaluated.values()) for s in squeezed]),
            "warning_of": np.array([p for p, _, _ in kinds], int),
            "warning": np.array([text for _, _, text in kinds], dtype=str),
            "plan": self.plan,
            "stage_done": np.array([self.stage, self.done]),
        }
        return arrays

    def unpack(self, arrays: dict[str, Any]) -> None:
        """Go on from `pack`."""
        for p, part in enumerate(self.parts):
            squeeze = part.squeeze
            for name in _FIELDS:
                setattr(squeeze, name, arrays[name][p].copy())
            squeeze.seconds = dict(zip(squeeze.seconds, arrays["seconds"][p].tolist(), strict=True))
            entered = arrays["evaluated"][p].tolist()
            squeeze.evaluated = dict(zip(squeeze.evaluated, entered, strict=True))
        for row, (p, i) in enumerate(arrays["opened"]):
            self.parts[p].squeeze.minimiser[i] = arrays["minimiser"][row]
        for row, (p, i) in enumerate(arrays["dual_of"].tolist()):
            self.parts[p].squeeze.dual[i] = tuple(arrays["dual"][row])
        for p, text in zip(arrays["warning_of"], arrays["warning"].tolist(), strict=True):
            self.warnings[p][text.split(":")[0]] = text
        self.seen = {name: arrays[f"seen_{name}"].copy() for name in self.seen}
        self.plan = arrays["plan"].copy()
        self.stage, self.done = arrays["stage_done"].tolist()


_FIELDS = ("lower", "upper", "stage")


def _cheap(squeeze: Squeeze, index: np.ndarray) -> Attacked:
    """The quick attack on the points ``index``, then the cheap stages on what stands."""
    found = squeeze.attack(QUICK, index)
    names = tuple(name for name in squeeze.stages if name in CHEAP)
    still = index[squeeze.open[index]]
    if names and len(still):
        squeeze.certify(names, still, protocol=QUICK)
    return found


@contextlib.contextmanager
def _named(part: Part) -> Iterator[None]:
    """A contradiction also says which network it is about."""
    try:
        yield
    except Contradiction as error:
        error.evidence |= {"seed": part.seed, "phase": part.phase}
        raise

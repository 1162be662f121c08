"""Side-by-side timing: contestants take turns in one process; medians, quartiles, ratios."""

import os
import platform
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


def alternate(
    contestants: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of every call: each contestant once per round, after one round that compiles."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, call in contestants.items():
            # Worker threads of other libraries spin for a while after their last product.
            time.sleep(0.02)
            began = time.perf_counter()
            jax.block_until_ready(call())
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(values) for name, values in seconds.items()}


def show(values, digits: int = 2) -> str:
    """Median and quartiles: a ratio is taken round by round, so that both sides saw one machine."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(title: str, rows: list[tuple[str, str, str]]) -> str:
    """A Markdown table of (what, measured, target)."""
    lines = [f"### {title}", "", "| what | measured | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def machine() -> str:
    """The machine and the versions, in a line."""
    import torch

    with open("/proc/cpuinfo", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    return (
        f"{names['model name']} (family {names['cpu family']}, model {names['model']}), "
        f"{len(os.sched_getaffinity(0))} cores of {os.cpu_count()}, load {os.getloadavg()[0]:.1f} "
        f"at the start, {platform.system()}, Python {platform.python_version()}, "
        f"JAX {jax.__version__}, PyTorch {torch.__version__}"
    )

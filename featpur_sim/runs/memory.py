"""What a run needs of memory, and whether the machine has it."""

import os

from featpur_sim._ground.checks import ConfigError
from featpur_sim.runs.config import RunConfig


def require_memory(config: RunConfig) -> None:
    """Refuse a run that cannot fit, before anything is computed.

    Raises:
        ConfigError: the estimate exceeds the machine's memory.
    """
    need, have = estimate_memory(config), machine_memory()
    if have is not None and need > have:
        raise ConfigError(
            f"this run needs about {need / 2**30:.1f} GiB and the machine has {have / 2**30:.1f}: "
            "lower seeds, network.neurons or problem.d, or set microbatch below batch in "
            "[clean] and [adversarial]."
        )


def machine_memory() -> int | None:
    """Bytes of memory that this machine has; None where Python cannot tell, as on Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def estimate_memory(config: RunConfig) -> int:
    """Bytes that a run keeps at once: weights with their copies, one chunk's activations, M."""
    d, m = config.problem.d, config.network.neurons
    features = config.problem.features or d
    rows = max(
        *((p.microbatch or p.batch) for p in (config.clean, config.adversarial)),
        config.evaluation.samples,
    )
    weights = 8 * m * d  # three phases, two snapshots, gradient, update, optimiser
    activations = rows * (4 * m + 6 * (d + features))
    data = sum((p.dataset_size or 0) * (d + features) for p in (config.clean, config.adversarial))
    matrix = 0 if config.problem.dictionary == "identity" else 2 * d * features
    return 4 * config.seeds * (weights + activations + data + matrix)

"""Small networks, a plain attack and an exact solver: what the certificates are checked by."""

import itertools

import numpy as np
from scipy.optimize import minimize


def threshold(u, b):
    return np.sign(u) * np.maximum(np.abs(u) - b, 0)


def network_value(weights, bias, x):
    return threshold(x @ weights.T, bias).sum(-1)


def random_network(seed, width, size, count, bias=0.1):
    """Weights [m, d] of mixed scales, per-neuron biases, points [n, d] with f > 0."""
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(width, size)) * rng.uniform(0.2, 1, (width, 1))).astype(np.float32)
    level = (bias * rng.uniform(0.5, 1.5, width)).astype(np.float32)
    points = rng.normal(size=(count, size)).astype(np.float32) * 0.6
    signs = np.sign(network_value(weights, level, points))
    return weights, level, (points * signs[:, None]).astype(np.float32)


def descend(weights, bias, points, radius, norm="l2", restarts=4, steps=60, seed=0, starts=()):
    """Projected normalised gradient descent in float64: the least f found and its δ."""
    rng = np.random.default_rng(seed)
    weights, bias, points = (np.asarray(v, np.float64) for v in (weights, bias, points))
    tau = np.broadcast_to(radius, len(points))[:, None]
    best = np.full(len(points), np.inf)
    where = np.zeros_like(points)

    def project(delta):
        if norm == "linf":
            return np.clip(delta, -tau, tau)
        length = np.linalg.norm(delta, axis=1, keepdims=True)
        return delta * np.minimum(1, tau / np.maximum(length, 1e-12))

    beginnings = [np.zeros_like(points), *starts]
    beginnings += [project(tau * rng.normal(size=points.shape)) for _ in range(restarts)]
    for begin in beginnings:
        delta = project(np.array(begin))
        for step in range(steps):
            u = (points + delta) @ weights.T
            value = threshold(u, bias).sum(1)
            better = value < best
            best[better], where[better] = value[better], delta[better]
            gradient = (np.abs(u) > bias).astype(float) @ weights
            if norm == "linf":
                gradient = np.sign(gradient)
            else:
                length = np.linalg.norm(gradient, axis=1, keepdims=True)
                gradient = gradient / np.maximum(length, 1e-12)
            delta = project(delta - 0.5 * tau * (1 - step / steps) * gradient)
    return best, where


def exact_minimum(weights, bias, x, radius):
    """min f over the ℓ2 ball, exactly: 2^m' convex problems.

    S_b(u) = max(u − b, 0) + min(u + b, 0), so f is a minimum, over the subsets of neurons whose
    second term is taken, of convex functions; m' neurons can reach −b at all.
    """
    weights, bias, x = (np.asarray(v, np.float64) for v in (weights, bias, x))
    u, reach = weights @ x, radius * np.linalg.norm(weights, axis=1)
    size = len(x)
    free = np.flatnonzero((u - reach < -bias) & (u + reach > -bias))
    always = u + reach <= -bias
    rising = np.flatnonzero(u + reach > bias)
    least = np.inf
    for choice in itertools.product((False, True), repeat=len(free)):
        taken = always.copy()
        taken[free] = choice
        slope = weights[taken].sum(0)
        constant = (u + bias)[taken].sum()

        def objective(z, slope=slope):
            return slope @ z[:size] + z[size:].sum()

        constraints = [
            {
                "type": "ineq",
                "fun": lambda z: np.append(
                    z[size:] - (u[rising] + weights[rising] @ z[:size] - bias[rising]),
                    radius**2 - z[:size] @ z[:size],
                ),
            }
        ]
        begin = np.append(np.zeros(size), np.maximum(u[rising] - bias[rising], 0))
        bounds = [(None, None)] * size + [(0, None)] * len(rising)
        result = minimize(
            objective,
            begin,
            method="SLSQP",
            bounds=bounds,
            constraints=constraints,
            options={"ftol": 1e-10, "maxiter": 300},
        )
        # 8: the line search cannot improve a point that is optimal to rounding.
        assert result.status in (0, 8), result.message
        least = min(least, result.fun + constant)
    return least

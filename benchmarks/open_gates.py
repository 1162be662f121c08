"""Two of the four products of an FGM step on open gates alone: is it worth it?

The gradients G W (in x) and Gᵀ X (in W) need the open gates only, where G [n, m] is not 0. Three
ways to skip the closed ones, against the dense product, at d = 512, m = 4d, n = 512. "Step" is what
the whole step would gain if both products took that time and the other two, which decide the gates,
stay: 4/(2 + 2r) for a way that takes r times the dense product's time.

    python benchmarks/open_gates.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental import sparse
from timing import alternate, machine, table

D, M, N = 512, 2048, 512
DENSITIES = (0.01, 0.02, 0.05, 0.10, 0.25)


def measure(density: float) -> list[tuple[str, str, str]]:
    rng = np.random.default_rng(0)
    gates = rng.random((N, M)) < density
    values = (gates * rng.normal(size=(N, M))).astype(np.float32)
    weights = rng.normal(size=(M, D)).astype(np.float32)
    most = int(gates.sum(1).max())
    # Each sample's open gates first; the rest point at any neuron with value 0.
    index = np.argsort(~gates, axis=1, kind="stable")[:, :most]
    g, w = jnp.asarray(values), jnp.asarray(weights)
    few, where = jnp.asarray(np.take_along_axis(values, index, 1)), jnp.asarray(index)
    rows, blocks = scipy.sparse.csr_matrix(values), sparse.BCSR.fromdense(g)
    dense = jax.jit(lambda g, w: g @ w)
    bcsr = jax.jit(lambda g, w: g @ w)

    @jax.jit
    def gathered(few, where, w):
        def one(of_sample):
            value, place = of_sample
            return value @ w[place]

        return jax.lax.map(one, (few, where))

    expected = values @ weights
    ways = {
        "dense": lambda: dense(g, w),
        "gathered rows of W, XLA": lambda: gathered(few, where, w),
        "BCSR, XLA": lambda: bcsr(blocks, w),
        "CSR, SciPy, one core": lambda: rows @ weights,
    }
    for name, way in ways.items():
        assert np.allclose(way(), expected, atol=1e-3), name
    seconds = alternate(ways, 15)
    found = []
    for name in list(ways)[1:]:
        ratio = float(np.median(seconds[name] / seconds["dense"]))
        gain = f"{ratio:.2f} of the dense product, step {4 / (2 + 2 * ratio):.2f} times faster"
        found.append((f"{density:.0%} open: {name}", gain, "step ≥ 1.2"))
    return found


if __name__ == "__main__":
    print(f"Measured on {machine()}.\n")
    rows = [row for density in DENSITIES for row in measure(density)]
    print(table(f"Open gates alone, d = {D}, m = {M}, n = {N}", rows))

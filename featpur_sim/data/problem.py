"""What a problem is: where labelled inputs come from (docs/how-to/own-data.md).

`SparseCoding` is the one of the theorem. Training, attacks and critical radii take any object with
these methods; what rests on features and w* asks for a `SparseCoding`.
"""

from typing import Protocol, runtime_checkable

from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.data.sparse_coding import Batch


@runtime_checkable
class Problem(Protocol):
    """A source of labelled inputs.

    With ``dataset_size`` a phase also needs ``sample_labelled(key, n)``, n samples with a label.

    >>> from featpur_sim import SparseCoding
    >>> isinstance(SparseCoding(d=8, k=2, sigma_x=0.3), Problem)
    True
    """

    def sample(self, key: PRNGKey, n: int, *, start: Array | int = 0) -> Batch:
        """Rows ``start .. start + n``; row r depends on (key, r) alone. Traceable by JAX."""
        ...

    def coordinates(self, weights: Float[Array, "*m d"]) -> Float[Array, "*m D"]:
        """What a schedule of thresholds sees of the weights: C = WM, or the weights as they are."""
        ...

    def require_dimension(self, weights: Float[Array, "*m d"]) -> None:
        """Raise a ValueError if weights are of another length than the inputs."""
        ...

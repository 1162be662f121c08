"""A measured variable at chosen labels, as fits, diagrams and commands name it."""

import re
from typing import Any, NamedTuple

import xarray as xr

from featpur_sim.runs.folder import ResultError
from featpur_sim.sweeps.dependence import depends, free_variables, settings_read

_SYMBOLS = {
    "kappa_over_alpha": "κ/α",
    "dense_norm_over_alpha": "‖v‖/|α|",
    "residual_norm_over_alpha": "‖r‖/|α|",
    "theta_init_clean": "θ(init, clean)",
    "theta_init_adversarial": "θ(init, adversarial)",
    "theta_clean_adversarial": "θ(clean, adversarial)",
}
_FORM = re.compile(r"(?P<name>\w+)(\[(?P<at>[^\]]*)\])?")


class Quantity(NamedTuple):
    """A measured variable at chosen labels: one number per point and seed.

    >>> str(Quantity.parse("critical_radius[phase=clean, critical_attack=dense mixture]"))
    'critical_radius[clean, dense mixture]'
    >>> Quantity.parse("robust_accuracy[phase=clean, attack=PGD, relative_radius=1]").label
    'robust accuracy (clean, PGD, 1τ)'
    """

    name: str
    at: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(label for _, label in self.at)}]" if self.at else self.name

    @property
    def label(self) -> str:
        """As an axis names it."""
        name = _SYMBOLS.get(self.name, self.name.replace("_", " "))
        at = [label + "τ" * (dim == "relative_radius") for dim, label in self.at]
        return f"{name} ({', '.join(at)})" if at else name

    @classmethod
    def parse(cls, text: str) -> "Quantity":
        """``name`` or ``name[dim=label, dim=label]``.

        Raises:
            ResultError: the text has another form.
        """
        found = _FORM.fullmatch(text.strip())
        parts = [part.partition("=") for part in (found["at"] or "").split(",")] if found else []
        labels = tuple((dim.strip(), label.strip()) for dim, _, label in parts if dim.strip())
        if found is None or not all(dim and label for dim, label in labels):
            raise ResultError(
                f"quantity {text!r}: must be a name, or name[dim=label, …], such as "
                "'kappa_over_alpha[phase=clean]'."
            )
        return cls(found["name"], labels)

    def read(self, result: xr.Dataset) -> xr.DataArray:
        """Its values [point, seed].

        Raises:
            ResultError: no such variable or label, or a dimension is left open.
        """
        known = [str(name) for name, of in result.data_vars.items() if of.dtype.kind == "f"]
        if self.name not in known:
            raise ResultError(
                f"the sweep has no quantity '{self.name}': it has {', '.join(sorted(known))}."
            )
        values = result[self.name]
        for dim, label in self.at:
            if dim not in values.dims:
                dims = ", ".join(map(str, values.dims))
                raise ResultError(f"{self.name} has no dimension '{dim}': it has {dims}.")
            labels = values[dim].values
            place = [i for i, known in enumerate(labels) if _same(known, label)]
            if not place:
                raise ResultError(
                    f"{self.name}[{dim}={label}]: {dim} must be one of "
                    f"{', '.join(map(str, labels))}."
                )
            values = values.isel({dim: place[0]})
        if open_dims := [str(dim) for dim in values.dims if dim not in ("point", "seed")]:
            dim = open_dims[0]
            raise ResultError(
                f"{self.name} needs a label for {dim}: write {self.name}[{dim}=…] with one of "
                f"{', '.join(map(str, values[dim].values))}."
            )
        return values.transpose("point", "seed")

    def settings(self, result: xr.Dataset) -> tuple[str, ...] | None:
        """The settings of a sweep that it depends on; None if it may be any."""
        # What trains a study is code: any of its axes may enter anything.
        return None if result.attrs.get("own") else settings_read(self.name, dict(self.at))

    def cannot_depend_on(self, coordinate: str, result: xr.Dataset) -> str:
        """Why it has no exponent in a coordinate of a sweep; empty if it may have one."""
        free, settings = free_variables(result), self.settings(result)
        # A free variable that enters no setting is a function of others: whether it says anything,
        # its values tell.
        fields = free.get(coordinate, [coordinate])
        if not fields or any(depends(settings, field) for field in fields):
            return ""
        *most, last = settings or ("nothing",)
        alone = f"{', '.join(most)} and {last}" if most else last
        enters = f", and {coordinate} enters {', '.join(fields)}" if coordinate in free else ""
        return f"no exponent in {coordinate}: {self} depends on {alone} alone{enters}."


def _same(known: Any, label: str) -> bool:
    try:
        return str(known) == label or float(known) == float(label)
    except ValueError:
        return False

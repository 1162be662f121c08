"""The purification factor against k and τ, beside k·τ√k (docs/theory.md §5.1).

featpur sweep experiments/purification.toml --out purification
python experiments/purification.py purification --picture docs/images/purification-factor.png
"""

from panels import arguments, load, save

from featpur_sim.claims.power_law import fit_power_law
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report.sweep_figures import draw_power_law


def main():
    (folder,), picture = arguments(__doc__)
    sweep = load(folder)
    law = fit_power_law(sweep, Quantity.parse("purification_factor"))
    for e in law.exponents:
        inside = e.low <= e.predicted <= e.high
        print(
            f"exponent in {e.coordinate}: {e.value:.3f} [{e.low:.3f}, {e.high:.3f}], predicted "
            f"{e.predicted:.3f}: {'supported' if inside else 'contradicted at this size'}"
        )
    print(f"R² = {law.r_squared:.3f}, scatter {100 * law.scatter:.0f} %, {len(law.points)} points")
    save(draw_power_law(sweep, law), picture)


if __name__ == "__main__":
    main()

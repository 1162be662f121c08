"""Claim C9: do the neurons that hold a winning ticket at the start win it? (docs/theory.md §4)

    featpur sweep experiments/tickets.toml --out tickets
    python experiments/tickets.py tickets --picture docs/images/tickets.png

Rule as in featpur_sim/claims/of_run.py: supported at a σ₀ if the interval of the difference lies at
or above 0.2: ticket holders that end with their feature, less other neurons that end with the
feature of their own largest coordinate at the start.
"""

from panels import arguments, bars, difference, load, page, quantity, save, text

from featpur_sim.report._style import BLUE, GREEN, GREY


def main():
    (folder,), picture = arguments(__doc__)
    sweep = load(folder)
    x = sweep.sigma_0.values
    figure, (left, right) = page(2)
    won, control = (quantity(sweep, f"ticket_{name}_rate") for name in ("win", "control"))
    bars(left, x, won, color=BLUE, marker="o", label="ticket holders")
    bars(left, x, control, color=GREY, marker="s", label="other neurons")
    covered = quantity(sweep, "ticket_features_won")
    bars(right, x, covered, color=GREEN, marker="o")
    left.set_ylabel("neurons that end with their first feature")
    left.legend()
    right.set_ylabel("offered features that a holder carries")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("scale of the initial weights σ₀")
    gap = difference(sweep, sweep.ticket_win_rate, sweep.ticket_control_rate)
    for i, (value, row) in enumerate(zip(x, gap, strict=True)):
        cells = [text(t.isel(point=i)) for t in (won, control)]
        print(f"σ₀ {value:g}: holders {cells[0]}, others {cells[1]}")
        if row is not None:
            verdict = "supported" if row[1] >= 0.2 else "not supported"
            print(f"    difference {row[0]:.3f} [{row[1]:.3f}, {row[2]:.3f}]: {verdict}")
    save(figure, picture)


if __name__ == "__main__":
    main()

"""Where in the plane of k and τ does purification work at d = 48?

    featpur sweep experiments/plane.toml --out plane
    featpur report plane
    python experiments/plane.py plane --picture docs/images/explorer.png

Rule, with the thresholds of claim C5: it works at a point if adversarial training raises the
accuracy under PGD at τ by at least 0.05, and leaves it at most 0.05 below that of the best pure
network; each by the whole 95 % interval over seeds. It does not if an interval lies on the other
side; else the point is open. The picture is the folder's explorer.html in Chromium, at k = 6.9 and
τ = 0.19, and shows the rise; it needs the extras explorer and browser.
"""

import shutil
from pathlib import Path

import xarray as xr
from panels import arguments, load

from featpur_sim.claims.diagram import point_intervals
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import AtLeast
from featpur_sim.claims.verdict import Verdict
from featpur_sim.runs.diagnosis import finished

RISE = AtLeast(0.05, "the rise")
NEAR = AtLeast(-0.05, "the distance")


def added(sweep: xr.Dataset, first: xr.DataArray, second: xr.DataArray) -> list[tuple]:
    """Mean and interval of first − second at every point, as the explorer has them."""
    values = (first - second).transpose("point", "seed").values
    rows = point_intervals(values, finished(sweep), sweep.attrs["test_samples"], least=-1.0)
    return [tuple(map(float, row)) for row in rows.T]


def verdict(rows: list[tuple], seeds: int) -> str:
    """By the rule above; a point without an interval is open."""
    judged = [
        Verdict.INCONCLUSIVE if row[1] != row[1] else rule.judge(Measured(*row, seeds=seeds))
        for row, rule in zip(rows, (RISE, NEAR), strict=True)
    ]
    if all(one == Verdict.SUPPORTED for one in judged):
        return "yes"
    return "no" if Verdict.CONTRADICTED in judged else "open"


def photograph(folder: Path, picture: Path) -> None:
    """The explorer with what adversarial training adds, and one point chosen."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto((folder / "explorer.html").resolve().as_uri())
        page.wait_for_selector("body[data-drawn]")
        page.locator("#label-phase").select_option("adversarial − clean")
        drawn = "!document.querySelector('[aria-busy=true]')"
        page.wait_for_function(drawn)
        page.locator('#diagram .points_marks > [aria-label^="k = 6.892, τ = 0.1893:"]').click()
        page.wait_for_function(drawn)
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)  # the hovering label fades
        page.screenshot(path=picture, full_page=True)
        browser.close()


def main():
    (folder,), picture = arguments(__doc__)
    sweep = load(folder)
    at = dict(attack="PGD", relative_radius=1.0)
    robust = sweep.robust_accuracy.sel(**at)
    after = robust.sel(phase="adversarial")
    rise = added(sweep, after, robust.sel(phase="clean"))
    near = added(sweep, after, sweep.pure_accuracy.sel(relative_radius=1.0))
    print("    k      τ  works  rise of PGD accuracy at τ  less that of the pure network")
    places = zip(sweep.k.values, sweep.tau.values, rise, near, strict=True)
    for k, tau, *rows in places:
        cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*row) for row in rows]
        word = verdict(rows, sweep.sizes["seed"])
        print(f"{k:5.2f}  {tau:.3f}  {word:5}  {cells[0]:25}  {cells[1]}")
    photograph(folder, picture)


if __name__ == "__main__":
    main()

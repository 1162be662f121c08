"""The explorer in a real browser, Chromium: loads, hovers, clicks, filters and hands out files.

python -m pytest -m browser -n 0 tests/report/test_explorer_browser.py
"""

import csv
import io
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up_surveys import large, survey

from featpur_sim.claims.diagram import per_point
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report import explorer, explorer_data
from featpur_sim.runs.folder import load_result, load_weights

pytestmark = pytest.mark.browser

ROBUST = Quantity.parse("robust_accuracy[phase=adversarial, attack=PGD, relative_radius=1]")
# A cell or a disc of the phase diagram; its label begins with its place.
MARK = "#diagram .points_marks > *"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra browser is missing")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Without its sandbox, which root may not use.
        found = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def sweep():
    return survey(records=20, shown=6)


@pytest.fixture(scope="module")
def sweep_page(sweep, tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "explorer.html"
    page = explorer.build(explorer_data.of_sweep(sweep), "sweep.nc")
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser):
    """Opens a file; at the end there was no complaint, and nothing was asked of any network."""
    contexts, said, asked = [], [], []

    def note(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            asked.append(request.url)

    def call(path, width=1280, height=1000):
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", note)
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-drawn]", timeout=60_000)
        return page

    yield call
    for context in contexts:
        context.close()
    assert not said and not asked


def settled(page):
    page.wait_for_function("!document.querySelector('[aria-busy=true]')")


def mark(page, **place):
    """The cell at k=…, c=… among those that are shown."""
    labels = page.locator(MARK).evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    wanted = [f"{name} = {value}," for name, value in place.items()]
    (found,) = [n for n, text in enumerate(labels) if all(w in f"{text}," for w in wanted)]
    return page.locator(MARK).nth(found)


def point_of(sweep, **place):
    same = np.logical_and.reduce([np.isclose(sweep[name], v) for name, v in place.items()])
    (found,) = np.flatnonzero(same)
    return int(found)


def shown(value):
    """As the page writes a number: four digits."""
    return f"{value:.4g}".replace("-", "−") if np.isfinite(value) else "–"


def facts(page):
    names, values = (page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def downloaded(page, button):
    with page.expect_download() as found:
        page.locator(button).click()
    return found.value.path().read_text(encoding="utf-8")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def number(text):
    return float(text) if text else np.nan


def test_hovering_shows_what_is_in_the_file(opened, sweep, sweep_page):
    page = opened(sweep_page)
    assert page.title() == "featpur_sim: explore sweep made-up"
    assert page.evaluate("document.documentElement.lang") == "en"
    table = per_point(sweep, ROBUST)
    for k, c in ((4, 0.3), (6, 0.2), (3, 0.2)):
        mark(page, k=k, c=c).hover()
        tip = page.locator("#vg-tooltip-element")
        tip.wait_for(state="visible")
        here = table.isel(point=point_of(sweep, k=k, c=c, sigma_x=0.1))
        text = tip.inner_text()
        assert f"k = {k}, τ = {shown(c / k**0.5)}, c = {c}, σ_x = 0.1" in text
        assert shown(float(here.value)) in text
        assert f"[{shown(float(here.low))}, {shown(float(here.high))}]" in text
        failed = "; 1 dead" if (k, c) == (3, 0.2) else ""
        assert f"{int(here.finished)} of 3 finished{failed}" in text


def test_clicking_shows_the_point_in_every_panel(opened, sweep, sweep_page):
    page = opened(sweep_page)
    panels = [f"#{name} .chart svg" for name in ("radius", "along", "weights")]
    before = [page.locator(panel).inner_html() for panel in panels]
    mark(page, k=6, c=0.3).click()
    settled(page)
    point = point_of(sweep, k=6, c=0.3, sigma_x=0.1)
    here = per_point(sweep, ROBUST).isel(point=point)
    assert page.locator("#place").inner_text().startswith(f"Point {point}: k = 6, ")
    told = facts(page)
    assert told["robust accuracy (adversarially trained, PGD, 1τ)"] == shown(float(here.value))
    assert told["seeds"] == "3 of 3 finished"
    cells = page.locator("#seeds td:nth-child(2)").all_inner_texts()
    assert cells == [shown(float(v)) for v in ROBUST.read(sweep)[point]]
    assert all(
        page.locator(panel).inner_html() != old for panel, old in zip(panels, before, strict=True)
    )
    # The frame of the chosen cell is where the cell is.
    frame, cell = page.locator("#diagram .around_marks > *"), mark(page, k=6, c=0.3)
    assert frame.count() == 1
    assert frame.get_attribute("d") == cell.get_attribute("d")


def test_a_point_where_no_seed_finished_says_so(opened, sweep, sweep_page):
    page = opened(sweep_page)
    page.locator("#slider-sigma_x").fill("1")
    settled(page)
    page.locator("#diagram .blanks_marks > *").click()
    settled(page)
    assert facts(page)["seeds"] == "0 of 3 finished; 3 untrained"
    assert "untrained: made up" in page.locator("#seeds").inner_text()
    for panel in ("radius", "along", "weights"):
        assert page.locator(f"#{panel} .chart svg").count() == 0
        assert re.search(
            "No (value|weights) at this point", page.locator(f"#{panel} .note").inner_text()
        )


def test_sliders_filter_and_the_csv_is_the_file(opened, sweep, sweep_page):
    page = opened(sweep_page)
    assert page.locator("#plane input").count() == 1  # τ follows from k and c
    table = per_point(sweep, ROBUST)
    for place, sigma in enumerate((0.1, 0.3)):
        page.locator("#slider-sigma_x").fill(str(place))
        settled(page)
        rows = rows_of(downloaded(page, "#diagram .csv"))
        expected = np.flatnonzero(sweep.sigma_x.values == sigma)
        assert [int(row["point"]) for row in rows] == expected.tolist()
        for row, point in zip(rows, expected, strict=True):
            for name in ("k", "tau", "c", "sigma_x"):
                assert float(row[name]) == float(sweep[name][point])
            here = table.isel(point=point)
            value = "robust accuracy (adversarially trained, PGD, 1τ)"
            for column, key in ((value, "value"), ("low", "low"), ("high", "high")):
                np.testing.assert_equal(number(row[column]), float(here[key]))
            assert int(row["finished"]) == int(here.finished)
            assert int(row["failed"]) == int(here.failed)


def test_any_quantity_over_any_plane(opened, sweep, sweep_page):
    page = opened(sweep_page)
    page.locator("#variable").select_option("kappa_over_alpha")
    page.locator("#label-phase").select_option("clean")
    page.locator("#axis-x").select_option("sigma_x")
    page.locator("#axis-y").select_option("tau")
    settled(page)
    assert page.locator("#plane input").count() == 0  # every point has a place of its own
    assert page.locator(MARK).count() == 11
    page.locator("#axis-y").select_option("c")
    settled(page)
    assert [one.get_attribute("id") for one in page.locator("#plane input").all()] == ["slider-k"]
    page.locator("#slider-k").fill("2")
    settled(page)
    rows = rows_of(downloaded(page, "#diagram .csv"))
    assert {float(row["k"]) for row in rows} == {6.0} and len(rows) == 4
    table = per_point(sweep, Quantity.parse("kappa_over_alpha[phase=clean]"))
    for row in rows:
        here = float(table.value[int(row["point"])])
        np.testing.assert_equal(number(row["κ/α (clean-trained)"]), here)
    assert "the theory’s κ/α ≈ k/d [D] §5.1" in facts(page)
    assert facts(page)["the theory’s κ/α ≈ k/d [D] §5.1"] == shown(6 / 48)
    page.locator("#axis-y").select_option("")
    settled(page)
    assert page.locator(MARK).count() == 2  # against σ_x, at one k and c
    assert page.locator("#plane input").count() == 2


def test_what_training_adds(opened, sweep, sweep_page):
    page = opened(sweep_page)
    page.locator("#label-phase").select_option("adversarial − clean")
    settled(page)
    point = int(page.locator("#place").inner_text().split(":")[0].removeprefix("Point "))
    at = dict(attack="PGD", relative_radius=1.0)
    robust = sweep.robust_accuracy.isel(point=point).sel(**at)
    added = robust.sel(phase="adversarial") - robust.sel(phase="clean")
    cells = page.locator("#seeds td:nth-child(2)").all_inner_texts()
    assert cells == [shown(float(value)) for value in added]
    page.locator("#variable").select_option("alpha_max")
    settled(page)
    assert page.locator("#label-phase").input_value() == "adversarial"


def test_lines_of_the_theory_are_those_of_the_plane(opened, sweep_page):
    page = opened(sweep_page)
    labels = page.locator("#diagram .chart svg text")
    page.locator("#axis-x").select_option("k")
    page.locator("#axis-y").select_option("tau")
    settled(page)
    text = " ".join(labels.all_text_contents())
    for formula in ("k = d^(1/3)", "k = d^(1/2)", "τ ≈ 1/√k", "τ ≈ √d/k²"):
        assert formula in text
    page.locator("#axis-x").select_option("sigma_x")
    settled(page)
    assert "≈" not in " ".join(labels.all_text_contents())


def test_pictures_and_tables_of_the_panels(opened, sweep, sweep_page):
    page = opened(sweep_page)
    mark(page, k=4, c=0.2).click()
    settled(page)
    point = point_of(sweep, k=4, c=0.2, sigma_x=0.1)
    for panel in ("diagram", "radius", "along", "weights"):
        picture = ElementTree.fromstring(downloaded(page, f"#{panel} .svg"))
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(picture.iter("{http://www.w3.org/2000/svg}path"))) > 3
    page.locator("#attack").select_option("FGM")
    settled(page)
    robust = sweep.robust_accuracy.isel(point=point).sel(attack="FGM", phase="clean")
    rows = rows_of(downloaded(page, "#radius .csv"))
    own = [row for row in rows if row["network"] == "clean-trained"]
    assert [float(row["radius / τ"]) for row in own] == sweep.relative_radius.values.tolist()
    np.testing.assert_allclose([float(row["accuracy"]) for row in own], robust.mean("seed"), 1e-12)
    page.locator("#curve").select_option("along_loss")
    settled(page)
    rows = rows_of(downloaded(page, "#along .csv"))
    loss = sweep.along_loss.isel(point=point, phase=[1, 2]).mean("seed").values.ravel()
    np.testing.assert_allclose([float(row["loss"]) for row in rows], loss, 1e-12)
    rows = rows_of(downloaded(page, "#weights .csv"))
    first = sweep.isel(point=point, seed=0)
    signed = first.shown_coordinates.sel(phase=["clean", "adversarial"]) * np.sign(first.wstar)
    values = [float(row["signed coordinate"]) for row in rows]
    np.testing.assert_array_equal(values, signed.values.ravel().astype(float))


def test_the_keyboard_chooses(opened, sweep, sweep_page):
    page = opened(sweep_page)
    mark(page, k=3, c=0.2).click()
    page.locator("#diagram .chart").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    settled(page)
    point = point_of(sweep, k=4, c=0.3, sigma_x=0.1)
    assert page.locator("#place").inner_text().startswith(f"Point {point}: k = 4, ")
    page.keyboard.press("ArrowUp")  # at the edge: it stays
    assert page.locator("#place").inner_text().startswith(f"Point {point}:")


def test_on_a_phone_nothing_is_wider_than_the_screen(opened, sweep_page):
    page = opened(sweep_page, 390, 800)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.locator("#diagram .chart svg").bounding_box()["width"] <= 390


def test_400_points_with_5_seeds(opened, tmp_path):
    result = large()
    path = tmp_path / "explorer.html"
    path.write_text(explorer.build(explorer_data.of_sweep(result), "sweep.nc"), encoding="utf-8")
    page = opened(path)
    assert page.locator(MARK).count() in (99, 100)  # at one of four σ_x
    page.locator("#axis-y").select_option("tau")  # no grid: discs
    page.locator("#slider-sigma_x").fill("3")
    settled(page)
    assert page.locator(MARK).count() == 100
    mark(page, k=12, c=0.6).click()
    settled(page)
    assert "17 of 192 neurons" in page.locator("#weights .note").inner_text()
    assert "Thinned to" in page.locator("#along .note").inner_text()


def test_parameters_that_are_words_have_a_slider(opened, tmp_path):
    laws = np.array(["gaussian", "two-level"])
    result = survey(cs=(0.3,), sigmas=(0.3,), ks=(4, 6)).isel(seed=[0, 2])
    result["status"] = result.status.copy(data=np.full((2, 2), "ok"))
    alone = result.drop_vars(["tau", "k"]).assign_coords(law=("point", laws, {"long_name": "law"}))
    alone.attrs["axes"] = '[["law"]]'
    path = tmp_path / "explorer.html"
    path.write_text(explorer.build(explorer_data.of_sweep(alone), "sweep.nc"), encoding="utf-8")
    page = opened(path)
    assert page.locator("#diagram").count() == 0
    for place, law in enumerate(laws):
        page.locator("#slider-law").fill(str(place))
        settled(page)
        assert page.locator("#place").inner_text() == f"Point {place}: law = {law}"
        cells = page.locator("#seeds td:nth-child(2)").all_inner_texts()
        assert cells == [shown(float(v)) for v in ROBUST.read(result)[place]]


def test_a_run(opened, tiny_folder, tmp_path):
    result, arrays = load_result(tiny_folder), load_weights(tiny_folder)
    # It certifies no points; these stand for both sides.
    shape = result.robust_accuracy.isel(attack=0).drop_vars("attack")
    share = np.random.default_rng(0).random((2, *shape.shape))
    sides = {"certified_accuracy": share.min(0), "attacked_accuracy": share.max(0)}
    result = result.assign({name: shape.copy(data=values) for name, values in sides.items()})
    path = tmp_path / "explorer.html"
    page = explorer.build(explorer_data.of_run(result, arrays), "result.nc")
    path.write_text(page, encoding="utf-8")
    page = opened(path)
    assert page.locator("#diagram").count() == 0
    page.locator("#attack").select_option("any perturbation (both sides)")
    settled(page)
    rows = rows_of(downloaded(page, "#radius .csv"))
    ok = (result.status == "ok").values
    for side in ("attacked", "certified"):
        own = [row for row in rows if row["network"] == f"adversarially trained, {side}"]
        whole = result[f"{side}_accuracy"].sel(phase="adversarial").values[ok].mean(0)
        np.testing.assert_allclose([float(row["accuracy"]) for row in own], whole, 1e-12)
    page.locator("#curve").select_option("along_kappa_over_alpha")
    settled(page)
    rows = rows_of(downloaded(page, "#along .csv"))
    curve = result.along_kappa_over_alpha.values[:, ok].astype(float).mean(1)
    np.testing.assert_allclose(
        [number(row["κ/α"]) for row in rows], curve[np.isfinite(curve)], 1e-6
    )
    assert page.locator("#weights .chart svg").count() == 1

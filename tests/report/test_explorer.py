"""The explorer's page without a browser: its numbers are the file's; its size; its extra."""

import base64
import json
import re

import numpy as np
import pytest
from made_up_surveys import large, survey
from made_up_sweeps import made_up, over_tau

from featpur_sim.claims.diagram import per_point
from featpur_sim.claims.power_law import PREDICTED
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report import explorer, explorer_data, explorer_training, sweep_page
from featpur_sim.report.explorer_arrays import encoded
from featpur_sim.report.explorer_lines import lines
from featpur_sim.runs.folder import load_result, load_weights


def decoded(array):
    kind = np.dtype("<" + array["type"])
    return np.frombuffer(base64.b64decode(array["base64"]), kind).reshape(array["shape"])


def embedded(page):
    """The data of a page, as its script reads them."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of a sweep with few figures: each takes half a second."""
    monkeypatch.setattr(sweep_page, "DIAGRAMS", ())
    result = made_up().assign_attrs(sweep="").drop_vars("purification_factor")
    result.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    return tmp_path


def test_arrays_keep_every_bit():
    values = np.array([[0.1, np.nan, -1e-300], [1 / 3, np.inf, 2.0**60]])
    np.testing.assert_array_equal(decoded(encoded(values)), values)
    single = np.float32([0.1, np.pi])
    assert decoded(encoded(single)).dtype == np.float32
    np.testing.assert_array_equal(decoded(encoded(single)), single)
    np.testing.assert_array_equal(decoded(encoded(values.T)), values.T)


def test_every_variable_of_a_sweep_is_in_the_page_as_in_the_file():
    result = survey()
    data = embedded(explorer.build(explorer_data.of_sweep(result), "sweep.nc"))
    measured = {name for name, of in result.data_vars.items() if of.dtype.kind == "f"}
    assert {one["name"] for one in data["variables"]} == measured and not data["left_out"]
    for one in data["variables"]:
        dims = [dim for dim in result[one["name"]].dims if dim not in ("point", "seed")]
        assert one["dims"] == dims
        whole = result[one["name"]].transpose("point", *dims, "seed")
        np.testing.assert_array_equal(decoded(one["each"]), whole)
        for at in np.ndindex(*whole.shape[1:-1]):
            labels = tuple((d, str(result[d].values[i])) for d, i in zip(dims, at, strict=True))
            table = per_point(result, Quantity(one["name"], labels))
            for key, column in (("mean", "value"), ("low", "low"), ("high", "high")):
                shown = decoded(one[key])[(slice(None), *at)]
                np.testing.assert_array_equal(shown, table[column].values, str(labels))
    assert data["status"] == result.status.values.tolist()
    assert [one["name"] for one in data["coordinates"]] == ["k", "tau", "c", "sigma_x"]
    assert data["coordinates"][0]["values"] == result.k.values.tolist()
    assert data["fixed"] == {"d": 48, "m": 192}


def test_what_adversarial_training_adds_is_a_difference_seed_by_seed():
    result = survey()
    (robust,) = [
        one
        for one in explorer_data.of_sweep(result)["variables"]
        if one["name"] == "robust_accuracy"
    ]
    values = result.robust_accuracy.transpose("point", "phase", "attack", "relative_radius", "seed")
    added = values.sel(phase="adversarial") - values.sel(phase="clean")
    np.testing.assert_array_equal(decoded(robust["gain"]["each"]), added)
    low = decoded(robust["gain"]["low"])
    # A difference may be negative: that of the untrained radius 0 is about 0.
    assert np.nanmin(low) < 0 and np.nanmin(low) >= -1
    mean = decoded(robust["gain"]["mean"])
    np.testing.assert_allclose(mean[2:], added.mean("seed")[2:])
    assert np.isnan(mean[1]).all()
    others = [one["name"] for one in explorer_data.of_sweep(result)["variables"] if "gain" in one]
    assert others == ["robust_accuracy", "clean_accuracy"]


def test_the_theorys_values_stand_beside_those_that_it_predicts():
    result = survey()
    told = {
        (one["name"], tuple(sorted(theory["at"].items()))): decoded(theory["values"])
        for one in explorer_data.of_sweep(result)["variables"]
        for theory in one.get("predicted", [])
    }
    assert len(told) == len(PREDICTED)
    box = explorer_data.of_sweep(result.assign_attrs(norm="linf"))
    assert not any("predicted" in one for one in box["variables"]) and not box["lines"]
    for quantity, predict in PREDICTED.items():
        places = zip(result.d.values, result.k.values, result.tau.values, strict=True)
        expected = [predict(int(d), float(k), float(tau)).value for d, k, tau in places]
        assert told[quantity.name, tuple(sorted(quantity.at))].tolist() == expected


def test_lines_of_the_window_and_of_the_radii():
    found = lines(over_tau(made_up(ds=(27, 64), ks=(4, 9))))
    by_k = [(one["at"], one["value"]) for one in found if one["axes"] == ["k"]]
    np.testing.assert_allclose(sorted(by_k), [(27, 3), (27, 27**0.5), (64, 4), (64, 8)])
    over_plane = [one for one in found if one["axes"] == ["d", "k"]]
    assert len(over_plane) == 2
    for one, power in zip(over_plane, (1 / 3, 1 / 2), strict=True):
        x, y = np.array(one["points"]).T
        np.testing.assert_allclose(y, x**power)
    pure, *dense = [one for one in found if one["axes"] == ["k", "tau"]]
    k, tau = np.array(pure["points"]).T
    np.testing.assert_allclose(tau, k**-0.5)
    assert [one["at"] for one in dense] == [27, 64]
    k, tau = np.array(dense[1]["points"]).T
    np.testing.assert_allclose(tau, 8 / k**2)


def test_what_a_sweep_keeps_is_shown_and_thinned_where_it_is_large(monkeypatch):
    result = survey(records=6, shown=4)
    data = explorer_data.of_sweep(result)
    curve = next(one for one in data["along"]["curves"] if one["name"] == "along_loss")
    trained = result.along_loss.sel(phase=["clean", "adversarial"])
    mean = decoded(curve["mean"])
    np.testing.assert_allclose(mean[2:], trained[2:].mean("seed").values.reshape(10, 6))
    np.testing.assert_allclose(mean[0], trained[0, [0, 2]].mean("seed").values.ravel())
    assert np.isnan(mean[1]).all()
    assert decoded(data["along"]["step"])[2].tolist() == [0, 10, 20, 20, 30, 40]
    assert data["along"]["phase"] == [1, 1, 1, 2, 2, 2]
    assert data["along"]["phases"] == ["init", "clean", "adversarial"]
    weights = decoded(data["weights"]["values"])
    first = result.isel(seed=0)
    signed = first.shown_coordinates.sel(phase=["clean", "adversarial"]) * np.sign(first.wstar)
    signed = signed.transpose("point", "phase", "shown", "feature")
    np.testing.assert_array_equal(weights[:, 0], signed)
    monkeypatch.setattr(explorer_training, "MOST_CURVE_BYTES", 12 * 4 * 6 * 32 // 2)
    monkeypatch.setattr(explorer_training, "MOST_WEIGHT_BYTES", 12 * 2 * 2 * 48 * 16 // 3)
    monkeypatch.setattr(explorer_training, "MOST_FEATURES", 48)
    less = explorer_data.of_sweep(result)
    # Every second record, and both sides of the phases' border.
    assert decoded(less["along"]["step"])[2].tolist() == [0, 20, 20, 30, 40]
    assert less["along"]["records"] == 6
    kept = decoded(less["weights"]["values"])
    assert kept.shape[3] == 2
    strength = np.abs(weights[2, 0, 0]).max(-1)
    strongest = np.sort(np.argsort(-strength)[:2])
    shown = decoded(less["weights"]["neuron"])[2, 0]
    assert sorted(shown.tolist()) == (2.0 * strongest).tolist()


def test_a_variable_that_is_too_large_is_left_out_and_named(monkeypatch):
    result = survey()
    wide = np.zeros((12, 3, 500))
    result = result.assign(mine=(("point", "seed", "part"), wide, {"long_name": "mine"}))
    assert explorer_data.of_sweep(result)["left_out"] == ["mine"]
    monkeypatch.setattr(explorer_data, "MOST_BYTES", 100_000)
    page = explorer.build(explorer_data.of_sweep(result), "sweep.nc")
    data = embedded(page)
    assert data["left_out"] == ["mine", "robust_accuracy"]
    assert "robust_accuracy" not in {one["name"] for one in data["variables"]}
    assert "large: mine, robust_accuracy." in page


def test_400_points_with_5_seeds_fit_into_15_MB():
    page = explorer.build(explorer_data.of_sweep(large()), "sweep.nc")
    assert len(page.encode()) < 15e6
    assert not embedded(page)["left_out"]


def test_the_page_names_no_address_and_has_language_and_title():
    result = survey().assign_attrs(name="</script><b>&")
    page = explorer.build(explorer_data.of_sweep(result), "sweep.nc")
    assert page.count("<script") == page.count("</script>") == 7
    assert "<title>featpur_sim: explore sweep &lt;/script&gt;" in page
    assert embedded(page)["name"] == "</script><b>&"
    assert '<html lang="en">' in page and "width=device-width" in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]', page.split("<script>")[0])


def test_a_run_is_a_sweep_of_one_point(tiny_folder):
    result, arrays = load_result(tiny_folder), load_weights(tiny_folder)
    data = embedded(explorer.build(explorer_data.of_run(result, arrays), "result.nc"))
    robust = next(one for one in data["variables"] if one["name"] == "robust_accuracy")
    whole = result.robust_accuracy.transpose("phase", "attack", "radius", "seed")
    np.testing.assert_array_equal(decoded(robust["each"])[0], whole)
    assert data["dims"]["relative_radius"]["values"] == result.relative_radius.values.tolist()
    names = {one["name"] for one in data["along"]["curves"]}
    assert {"along_kappa_over_alpha", "along_loss"} <= names
    loss = next(one for one in data["along"]["curves"] if one["name"] == "along_loss")
    ok = (result.status == "ok").values
    np.testing.assert_allclose(
        decoded(loss["mean"])[0], result.along_loss.values[:, ok].mean(1), rtol=1e-6
    )
    weights, neurons = (decoded(data["weights"][name]) for name in ("values", "neuron"))
    for seed, own in enumerate(neurons[0].astype(int)):
        for phase, name in enumerate(("W_clean", "W_adv")):
            expected = arrays[name][seed][own] * np.sign(arrays["wstar"][seed])
            np.testing.assert_array_equal(weights[0, seed, phase], expected)


def test_weights_are_in_the_coordinates_of_the_dictionary(apart):
    experiment, _ = apart
    arrays = experiment.weights
    found = explorer_training.weights_of_run(arrays)
    seed, neuron = 1, int(decoded(found["neuron"])[0, 1, 0])
    expected = arrays["W_adv"][seed, neuron] @ arrays["M"][seed] * np.sign(arrays["wstar"][seed])
    np.testing.assert_allclose(decoded(found["values"])[0, seed, 1, 0], expected, rtol=1e-5)


def test_command(folder, featpur, monkeypatch):
    code, _, said = featpur("report", folder)
    assert code == 0 and (folder / "explorer.html").is_file() and "explorer.html" in said
    assert (
        "explorer.html"
        in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    )
    # Without the extra everything else is written, and the page of another time goes.
    monkeypatch.setattr(explorer, "can_build", lambda: False)
    (folder / "report.html").unlink()
    code, _, said = featpur("report", folder)
    assert code == 0 and (folder / "report.html").is_file()
    assert not (folder / "explorer.html").exists()
    assert "pip install 'featpur_sim[explorer]'" in said and said.count("explorer.html") == 1
    with pytest.raises(ImportError, match="featpur_sim\\[explorer\\]"):
        explorer.build(explorer_data.of_sweep(survey()), "sweep.nc")


def test_a_page_of_other_origin_is_not_replaced(folder, featpur):
    (folder / "explorer.html").write_text("mine", encoding="utf-8")
    code, _, said = featpur("report", folder)
    assert code == 2 and "explorer.html" in said
    assert (folder / "explorer.html").read_text(encoding="utf-8") == "mine"

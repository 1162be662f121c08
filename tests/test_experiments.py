"""The settings files of experiments/ are valid, and every figure of the gallery is there."""

import re
from pathlib import Path

import pytest

from featpur_sim.runs import config
from featpur_sim.sweeps import file as sweep_file

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "experiments").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_settings_are_valid(path):
    if "preset" in path.read_text(encoding="utf-8"):
        sweep = sweep_file.load(path)
        assert sweep.name == path.stem and len(sweep.points) >= 4 and sweep.seeds >= 3
    else:
        assert config.load(path).name == path.stem


def test_the_gallery_names_every_file_and_its_figures_exist():
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    for path in FILES:
        name = path.stem.removeprefix("effect-")
        assert re.search(rf"\b{name}\b", page), path
    figures = re.findall(r"\]\((images/.*?\.png)\)", page)
    assert len(figures) >= 7 and all((ROOT / "docs" / figure).exists() for figure in figures)

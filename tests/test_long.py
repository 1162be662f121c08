"""The list of long tests: every line names a test or a file that is there."""

from pathlib import Path

import pytest

LONG = Path(__file__).with_name("long.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", [line for line in LONG if line[:1] != "#"])
def test_a_line_names_what_is_there(line):
    path, _, test = line.partition("::")
    text = (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text

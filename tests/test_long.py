"""The list of long tests: every line names a test or a file that is there."""

from pathlib import Path

import pytest

LONG = Path(__file__).with_name("long.txt").read_text(encoding="utf-8").splitlines()


LINES = [line for line in LONG if line and line[0] not in "#["]


def test_the_sections_are_marks_and_no_line_stands_twice():
    assert [line for line in LONG if line[:1] == "["] == ["[long]", "[thorough]"]
    assert len(LINES) == len(set(LINES))


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_what_is_there(line):
    path, _, test = line.partition("::")
    text = (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text

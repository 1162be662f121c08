"""Checksums of what we wrote: changed files are refused, replaced ones are not."""

import hashlib
import json

import pytest

from featpur_sim._ground.disk import ResultError, write_text
from featpur_sim._ground.manifest import (
    MANIFEST,
    foreign,
    recorded,
    require_intact,
    require_ours,
    rewriting,
    start_anew,
)


def fill(folder):
    with rewriting(folder, "a.json", "b.json", "figures/c.png"):
        write_text(folder / "a.json", "a")
        write_text(folder / "figures" / "c.png", "c")


def test_every_file_has_its_sha_256(tmp_path):
    fill(tmp_path)
    assert recorded(tmp_path) == {
        "a.json": hashlib.sha256(b"a").hexdigest(),
        "figures/c.png": hashlib.sha256(b"c").hexdigest(),
    }
    assert json.loads((tmp_path / MANIFEST).read_bytes())["files"] == recorded(tmp_path)


def test_a_changed_file_is_refused_and_a_rewritten_one_is_not(tmp_path):
    fill(tmp_path)
    require_intact(tmp_path / "a.json")
    write_text(tmp_path / "a.json", "other")
    assert foreign(tmp_path, "a.json") == [tmp_path / "a.json"]
    with pytest.raises(ResultError, match="a.json is not what was written there"):
        require_intact(tmp_path / "a.json")
    with rewriting(tmp_path, "a.json"):
        write_text(tmp_path / "a.json", "new")
    require_intact(tmp_path / "a.json")
    assert recorded(tmp_path).keys() == {"a.json", "figures/c.png"}


def test_a_file_that_is_not_on_the_list_is_taken_as_it_is(tmp_path):
    write_text(tmp_path / "a.json", "a")
    require_intact(tmp_path / "a.json")
    fill(tmp_path)
    write_text(tmp_path / "b.json", "b")
    require_intact(tmp_path / "b.json")
    assert foreign(tmp_path, "b.json") == [tmp_path / "b.json"]


def test_cut_off_between_file_and_list_no_file_looks_damaged_or_foreign(tmp_path):
    fill(tmp_path)
    files = ("a.json", "figures/c.png", "never.json")
    with pytest.raises(KeyboardInterrupt), rewriting(tmp_path, *files):
        write_text(tmp_path / "a.json", "new")
        write_text(tmp_path / "figures" / "c.png", "new")
        raise KeyboardInterrupt
    require_intact(tmp_path / "a.json")
    assert recorded(tmp_path) == dict.fromkeys(files)
    require_ours(tmp_path, *files)
    with rewriting(tmp_path, *files):
        pass
    assert recorded(tmp_path)["a.json"] == hashlib.sha256(b"new").hexdigest()
    assert recorded(tmp_path).keys() == {"a.json", "figures/c.png"}


def test_only_our_own_files_are_replaced(tmp_path):
    fill(tmp_path)
    require_ours(tmp_path, "a.json", "b.json", "figures/c.png")
    write_text(tmp_path / "b.json", "of the user")
    write_text(tmp_path / "figures" / "c.png", "changed by the user")
    with pytest.raises(ResultError, match=r"would be replaced: \S*b.json, \S*c.png. Move it"):
        require_ours(tmp_path, "a.json", "b.json", "figures/c.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "e").symlink_to(tmp_path / "nothing")
    assert foreign(tmp_path, "a.json", "d", "e") == [tmp_path / "d", tmp_path / "e"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"files": {}, "sha256": "0"}', "\xff"])
def test_a_damaged_manifest_is_one_message(tmp_path, content):
    fill(tmp_path)
    (tmp_path / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(ResultError, match="manifest.json is damaged .* restore") as caught:
        require_intact(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert start_anew(tmp_path) == [] and not (tmp_path / MANIFEST).exists()

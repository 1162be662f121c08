"""Makes the tables and figures of the documentation again, by the commands that its pages name.

What there is, with its commands, figures and pages, stands in `experiments/results/commands.toml`.
A command's standard output is kept beside it; `tests/test_pages.py` holds the pages against that.

    python experiments/pages.py                       # what there is, and how long it takes
    python experiments/pages.py window tickets        # these, in the folder pages-work
    python experiments/pages.py --all --work DIR      # everything
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, IMAGES = HERE / "results", HERE.parent / "docs" / "images"
ENTRIES = tomllib.loads((RESULTS / "commands.toml").read_text(encoding="utf-8"))


def ordered(names: list[str]) -> list[str]:
    """The entries asked for, each after those whose folders it reads, which come along."""
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys([*ordered(ENTRIES[name].get("after", [])), name])
    return list(found)


def output(command: str, work: Path) -> str:
    """What a command prints; it has to succeed. Its progress goes to the terminal."""
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    words = [sys.executable, "-m", "featpur_sim", *words[1:]] if words[0] == "featpur" else words
    # Wide enough that no table breaks a line; python -m experiments.… from any folder.
    wide = {**os.environ, "COLUMNS": "220", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(words, cwd=work, env=wide, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"'{command}' ended with code {done.returncode}; nothing was changed.")
    return done.stdout


def needs_data(name: str) -> bool:
    """Whether a command of the entry reads CIFAR-10's images."""
    return any("{data}" in command for command in ENTRIES[name]["commands"])


def make(name: str, work: Path, data: Path | None = None) -> None:
    """Run an entry's commands; then, all having succeeded, replace its result and figures."""
    work.mkdir(parents=True, exist_ok=True)
    entry, began, text = ENTRIES[name], time.monotonic(), []
    for template in entry["commands"]:
        folder = shlex.quote(str(data.resolve())) if data else ""
        command = template.format(here=os.path.relpath(HERE, work), data=folder)
        print(f"{name}: {command}", file=sys.stderr, flush=True)
        shown = template.format(here="experiments", data="DIR")
        text.append(f"$ {shown}\n{output(command, work)}")
    figures = {to: (work / made).read_bytes() for to, made in entry.get("figures", {}).items()}
    (RESULTS / f"{name}.txt").write_text("\n".join(text), encoding="utf-8")
    for picture, content in figures.items():
        (IMAGES / picture).write_bytes(content)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *ENTRIES], metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every entry")
    parser.add_argument(
        "--work", type=Path, default=Path("pages-work"), help="empty folder for the runs"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="CIFAR-10's binary version, for cifar10"
    )
    options = parser.parse_args()
    asked = list(ENTRIES) if options.all else options.names
    if not asked:
        for name, entry in ENTRIES.items():
            print(f"{name:14} {entry['minutes']:3} min   {', '.join(entry.get('pages', []))}")
    # What an older version left there would pass for made.
    if asked and options.work.exists() and any(options.work.iterdir()):
        parser.error(f"--work {options.work} is not empty: remove it, or name another folder.")
    todo = ordered(asked)
    if lacking := [name for name in todo if needs_data(name) and options.data is None]:
        parser.error(
            f"{', '.join(lacking)} reads CIFAR-10's images: name their folder, --data DIR."
        )
    for name in todo:
        make(name, options.work, options.data)

"""Feature purification on CIFAR-10: train cleanly, train adversarially, attack, measure, draw.

    python -m experiments.cifar10 --data DIR                 # sizes for the subset
    python -m experiments.cifar10 --data DIR --net resnet --width 64 --depth 2 --stride 1 \\
        --epochs 60 --adversarial-epochs 20 --points 10000   # the full data set, on a GPU

DIR holds CIFAR-10's binary version: data_batch_*.bin and test_batch.bin, with any number of
records. Killed at any moment, the same command continues where it stopped.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from experiments.cifar10.settings import HEADLINE, NORMS, Settings

BAD_INPUT, STOPPED, INTERRUPTED = 2, 3, 130
HELP = {
    "net": "alexnet or resnet",
    "width": "channels of the first convolution",
    "depth": "residual blocks per stage (resnet)",
    "stride": "of the first convolution; 2 is four times cheaper than 1",
    "epochs": "of clean training",
    "adversarial_epochs": "of every training from the clean weights",
    "batch": "images a step; a multiple of the number of devices",
    "learning_rate": "largest of clean training",
    "adversarial_learning_rate": "largest of every training from the clean weights",
    "weight_decay": "coefficient of ‖w‖²/2",
    "l2": "ℓ2 radius of training, for pixels in [0, 1]",
    "linf": "ℓ∞ radius of training",
    "pgd_steps": "of PGD in training",
    "ranks": "of the low-rank updates; 0 trains biases alone",
    "seeds": "independent repetitions, at least 2",
    "seed": "names them all",
    "points": "test images to attack",
    "attack_steps": "of each descent of the attack protocol",
    "atoms": "of the dictionary of patches",
}


def arguments() -> argparse.ArgumentParser:
    """The command line: an option for every field of `Settings`."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.cifar10",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the data"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("featpur-cifar10"), help="folder for results [%(default)s]"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no tables")
    for field in dataclasses.fields(Settings):
        many = isinstance(field.default, tuple)
        kind = type(field.default[0] if many else field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            nargs="*" if many else None,
            default=field.default,
            help=f"{HELP[field.name]} [%(default).4g]" if kind is float
            else f"{HELP[field.name]} [%(default)s]",
        )  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run and return the exit code: 0 done, 2 bad input, 3 stopped part-way, 130 interrupted."""
    options = vars(arguments().parse_args(argv))
    data, out, quiet = options.pop("data"), options.pop("out"), options.pop("quiet")
    # Imported here, so that --help answers at once.
    from experiments.cifar10 import density, loader, tables
    from experiments.cifar10.pictures import draw
    from experiments.cifar10.run import run
    from experiments.cifar10.training import Diverged
    from featpur_sim._ground.disk import claim_folder, write_text
    from featpur_sim.cli.progress import meter

    began = time.perf_counter()
    try:
        settings = Settings(**options | {"ranks": tuple(options["ranks"])})
        train_set, test_set = loader.load(data)
        if not density.can_learn():
            print(
                "note: the density of filters is left out, for scikit-learn is not installed: "
                "pip install '.[cifar]' and the same command adds it.",
                file=sys.stderr,
            )
        with claim_folder(out), meter("cifar10", quiet=quiet) as shown:
            result, networks = run(train_set, test_set, settings, out, shown.at)
            shown.at("figures", 0, 1)
            draw(result, networks[0], settings, out)
            shown.at("figures", 1, 1)
        text = tables.summary(result, {n: settings.radius(n) for n in NORMS}, HEADLINE)
        write_text(out / "summary.md", text)
    except ValueError as error:
        return _stop(BAD_INPUT, str(error))
    except Diverged as error:
        return _stop(STOPPED, str(error))
    except KeyboardInterrupt:
        return _stop(INTERRUPTED, "interrupted: the same command continues.")
    if not quiet:
        print(text)
        print(f"{out}   ({time.perf_counter() - began:.0f} s)")
    return 0


def _stop(code: int, message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

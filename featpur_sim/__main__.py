"""The process of ``featpur``, or ``python -m featpur_sim``: how it starts and how it ends."""

import os
import sys

from featpur_sim.cli import _signals

# A process that multiprocessing starts imports the main module first of all.
_signals.leave_to_the_command()


def main() -> None:
    """Run `featpur_sim.cli.main.main`; a signal at any moment ends it in good order.

    Signals are handled before the rest of the package is imported, which takes seconds.
    """
    try:
        _signals.install()
        # A notebook names its own backend to all that it starts, and matplotlib refuses to be
        # imported where that is not installed. Figures are only written to files here.
        os.environ["MPLBACKEND"] = "agg"
        _ignore_matplotlibrc()
        from featpur_sim.cli import main as cli

        cli.main()
    except SystemExit as end:
        if end.code:
            _signals.leave(end.code if isinstance(end.code, int) else 1)
        _signals.ignore()
        raise
    except BaseException:
        if _signals.interrupted():
            _signals.leave_interrupted()
        raise
    sys.exit(0)


def _ignore_matplotlibrc() -> None:
    """The user's matplotlib settings: figures do not use them, and a damaged file ends an import.

    One in the working directory goes before all others, so matplotlib is imported from elsewhere.
    """
    os.environ["MATPLOTLIBRC"] = os.devnull
    if not os.path.exists("matplotlibrc"):
        return
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(os.path.dirname(os.path.abspath(__file__)))
        import matplotlib  # noqa: F401
    finally:
        os.fchdir(here)
        os.close(here)


if __name__ == "__main__":
    main()

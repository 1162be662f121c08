"""What ends the ``featpur`` command from outside: Ctrl-C, SIGTERM, SIGHUP.

The first signal raises KeyboardInterrupt, so that folders are released, temporary files removed and
workers sent home; a second one, or one in the middle of an import, leaves at once. Everything on
disk is written whole or not at all and survives even a kill, so that nothing is lost either way.

Imports almost nothing: it has to be in place before the seconds that other imports take.
"""

import multiprocessing
import os
import signal
import sys
from types import FrameType

_WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "terminal closed",
}
# Long enough for the callback to end in which an interrupt was lost.
_SECONDS_UNTIL_RAISED_AGAIN = 0.02

_received: signal.Signals | None = None
_told = False


def install() -> None:
    """Handle the signals, except those that this process was told to ignore (nohup, &)."""
    for number in _WORDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _on_signal)
    signal.signal(signal.SIGALRM, _raise_again)
    sys.unraisablehook = _on_unraisable


def ignore() -> None:
    """Ignore the signals from now on: everything is done, and the interpreter is closing down.

    It would put the default action in place of ours, which kills the process without a word.
    """
    for number in _WORDS:
        signal.signal(number, signal.SIG_IGN)


def interrupted() -> bool:
    """Whether a signal has asked this process to end."""
    return _received is not None


def ending() -> tuple[int, str]:
    """The exit code, 128 + the signal's number as of any command, and the last words."""
    global _told
    _told = True
    number = _received or signal.SIGINT
    told = "the same command goes on from what it had saved. (A sweep: --resume.)"
    return 128 + number, f"{_WORDS[number]}: {told}"


def leave(code: int) -> None:
    """End the process without tearing the interpreter down.

    XLA's threads may still compute what nobody waits for any more; tearing down what they work on
    ends in a segmentation fault instead of our exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - nothing more is imported here
            stream.flush()
        except Exception:  # a closed pipe or terminal, or this very stream interrupted in a flush
            pass
    os._exit(code)


def leave_interrupted() -> None:
    """`leave` with the last words, unless they were said; they need no other module."""
    told = _told
    code, message = ending()
    if not told:
        try:
            # The cursor, which a progress bar may have hidden.
            shown = "\x1b[?25h" if os.isatty(2) else ""
            os.write(2, f"{shown}featpur: {message}\n".encode())
        except OSError:  # nobody reads
            pass
    leave(code)


def leave_to_the_command() -> None:
    """In a process that the command started: the terminal signals all of them, and it leads."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _received
    again, _received = _received is not None, _received or signal.Signals(number)
    # An exception in the start of an extension module is turned into another one, printed, or, in
    # jaxlib's, a segmentation fault.
    if again or _imports(frame):
        leave_interrupted()
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported at this moment."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raise_again(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _on_unraisable(unraisable) -> None:
    """Raise an interrupt again that fell into a callback of the garbage collector, and was lost."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_UNTIL_RAISED_AGAIN)
    else:
        sys.__unraisablehook__(unraisable)

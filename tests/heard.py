"""Processes that hear the signals of a test."""

import signal
import subprocess


def popen(command, **settings):
    """``subprocess.Popen`` of a process that ignores no signal.

    One that this process ignores, as under nohup or in a script's background, stays ignored in
    those that it starts. (A function for ``preexec_fn`` would fork, of which JAX warns.)
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **settings)
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

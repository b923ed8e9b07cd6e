"""Keys: what is pressed in the terminal while something plays. Space pauses and goes on; all else is left alone."""

import os
import select
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from threading import Event, Thread

GLANCE = 0.1  # seconds within which the end is noticed


@contextmanager
def keys(on_space: Callable[[], object]) -> Generator[bool, None, None]:
    """Listen to the keys of the terminal; it is put back as it was.

    Args:
        on_space: Called for each space, on a thread of its own.

    Yields:
        Whether there is a terminal that can be listened to: not where input is piped or in the background, nor on
        Windows.
    """
    if not _is_ours():
        yield False
        return
    termios, tty = import_module("termios"), import_module("tty")
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    over = Event()
    listening = Thread(target=_listen, args=(terminal, over, on_space), daemon=True)
    try:
        tty.setcbreak(terminal)  # Ctrl-C still interrupts
        listening.start()
        yield True
    finally:
        over.set()
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _is_ours() -> bool:
    """Whether standard input is a terminal of which this process is in the foreground; any other would stop it."""
    if os.name != "posix" or sys.stdin is None or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # a terminal that controls nobody
        return True


def _listen(terminal: int, over: Event, on_space: Callable[[], object]) -> None:
    while not over.is_set():
        if select.select([terminal], [], [], GLANCE)[0]:
            pressed = os.read(terminal, 64)
            if not pressed:
                return
            for _ in range(pressed.count(b" ")):
                on_space()

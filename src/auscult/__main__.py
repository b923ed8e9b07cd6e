"""The command `auscult`, and `python -m auscult`: the command line, which Ctrl-C ends quietly at any time."""

import os
import signal

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> None:
    """Run the command line. Its modules take a while to be imported; Ctrl-C ends that, too, with exit code 130."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # in the background it may be ignored
    if usual:
        signal.signal(signal.SIGINT, _leave)
    from auscult.cli import main as run

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(_number: int, _frame: object) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()

"""Ctrl-C while LLVM works: Python would tell of it only when LLVM is done, seconds later."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from wasinn_host.cli import status
from wasinn_host.cli.talk import say

__all__ = ["ends_at_once"]

# How long Python may take to answer by itself.
_PATIENCE_S = 0.3


@contextlib.contextmanager
def ends_at_once() -> Iterator[None]:
    """Have Ctrl-C end the process, whatever it is doing. Nothing that others see may be half done.

    Python's own handler only notes the signal until the main thread is back in Python, but it
    writes a byte at once, to a thread that waits for it here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, teller = os.pipe()
    os.set_blocking(teller, False)
    over = threading.Event()
    before = signal.set_wakeup_fd(teller, warn_on_full_buffer=False)

    def wait() -> None:
        while (byte := os.read(told, 1)) and byte[0] != signal.SIGINT:
            pass
        if byte and not over.wait(_PATIENCE_S):
            if sys.stderr is not None and sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
            say("interrupted")
            os._exit(status.INTERRUPTED)

    waiting = threading.Thread(target=wait, name="wasinn Ctrl-C", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(teller)
        waiting.join()
        os.close(told)

"""The exit statuses of ``wasinn``, in one table. A guest's own status is passed on as it is."""

from __future__ import annotations

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "NOT_READY",
    "STATUSES",
    "TIMED_OUT",
    "TRAPPED",
    "UNREAD",
    "of_guest",
]

NOT_READY = 1
TIMED_OUT = 124
FAILED = 125
INTERRUPTED = 130
TRAPPED = 134
UNREAD = 141

#: Each status and what it means, for help texts and documentation.
STATUSES: dict[str, str] = {
    "0..255": "the guest's own, as it passed it to proc_exit, modulo 256",
    str(TIMED_OUT): "the time of --timeout was over",
    str(FAILED): "wasinn itself failed: a bad option, file, module or model",
    str(INTERRUPTED): "interrupted from the keyboard (Ctrl-C)",
    str(TRAPPED): "the guest trapped, or threw an exception that nothing caught",
    str(UNREAD): "nobody read our output any more (SIGPIPE)",
}


def of_guest(code: int) -> int:
    """The process's status for a guest's 32-bit one: the operating system keeps 8 bits."""
    return code & 0xFF

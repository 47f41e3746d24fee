"""From a failure to the errno the guest sees. Not the errno numbers: those are in ``abi``.

Inside this package a call fails by raising ``WasiError``. Errors of the operating system go
through one table. Any other Python exception is either the user's own (a stream callback raised)
or our defect; both reach whoever called the guest.
"""

from __future__ import annotations

import errno as host
from typing import Final

from wasinn_host.wasi.abi import Errno
from wasinn_runtime.errors import WasinnError

__all__ = ["StreamFailure", "WasiError", "errno_from_os"]


class WasiError(WasinnError):
    """A call ends with this errno. Never leaves the package.

    Args:
        errno: what the guest gets.
        reason: for the trace: why, where the number alone does not say.
    """

    def __init__(self, errno: Errno, reason: str = "") -> None:
        self.errno = errno
        self.reason = reason
        super().__init__(f"{errno.name}: {reason}" if reason else errno.name)


class StreamFailure(WasinnError):
    """Carries an exception of a user's stream callback past the tables to the guest's caller.

    Without it an ``OSError`` from a callback would look like one of ours.
    """

    def __init__(self, original: BaseException) -> None:
        self.original = original
        super().__init__(repr(original))


# Host names that differ from WASI's. EXDEV is not here although openat2 reports an escape with
# it: rename and link mean it literally, so the path module translates it where it resolves.
_RENAMED: Final = {
    "E2BIG": "TOOBIG",
    "EWOULDBLOCK": "AGAIN",
    "EOPNOTSUPP": "NOTSUP",
    "ENOTSUP": "NOTSUP",
    "EDEADLOCK": "DEADLK",
    # No WASI number of their own; the nearest thing a guest can act on.
    "ENOMEDIUM": "NXIO",
    "ENOTBLK": "INVAL",
    "EUSERS": "MFILE",
    "ETOOMANYREFS": "MFILE",
    "EREMOTEIO": "IO",
    "EUCLEAN": "IO",
}


def _table() -> dict[int, Errno]:
    names = Errno.__members__
    table = {}
    for number, name in host.errorcode.items():
        wasi_name = _RENAMED.get(name, name[1:])
        if wasi_name in names:
            table[number] = names[wasi_name]
    # ``errorcode`` has one name for numbers with two (EAGAIN and EWOULDBLOCK).
    for name, wasi_name in _RENAMED.items():
        twin: int | None = getattr(host, name, None)
        if twin is not None:
            table[twin] = names[wasi_name]
    return table


_FROM_OS: Final = _table()


def errno_from_os(error: OSError) -> tuple[Errno, bool]:
    """The errno for an error of the operating system.

    Returns:
        The number, and whether the table has a row for it; without one the number is ``IO`` and
        the caller should leave a trace of ``error``.
    """
    number = error.errno
    if number is None:
        return Errno.IO, False
    found = _FROM_OS.get(number)
    return (Errno.IO, False) if found is None else (found, True)

"""Two Linux system calls that Python does not offer: ``openat2`` and ``getdents64``.

Not a policy: which path may be opened is decided in ``paths``. ``ctypes`` is imported on first
use, since many guests never open a file.

Source: Linux ``openat2(2)``, ``getdents64(2)``; ``include/uapi/linux/openat2.h``.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from struct import Struct
from typing import Final

__all__ = ["DirectoryReader", "directory_reader", "has_openat2", "linux_entries", "open_beneath"]

# The number is the same on every architecture, as for all calls added since Linux 5.1.
_SYS_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_BENEATH: Final = 0x08
_OPEN_HOW: Final = Struct("=QQQ")
_LINUX_DIRENT64: Final = Struct("=QqHB")

_System = Callable[..., int]
#: ``(fd, size in bytes) -> raw linux_dirent64 records``, empty at the end of the directory.
DirectoryReader = Callable[[int, int], bytes]


@functools.cache
def _syscall() -> tuple[_System, Callable[[], int]] | None:
    """libc's ``syscall`` and a way to read errno, or None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_long
    return function, ctypes.get_errno


def open_beneath(directory: int, path: bytes, flags: int, mode: int) -> int:
    """Open ``path`` so that the kernel keeps the whole walk below ``directory``.

    Args:
        directory: host descriptor the path starts at.
        path: relative path, checked to be free of NUL.
        flags: ``O_*`` flags; ``O_CLOEXEC`` is added.
        mode: permission bits for a new file.

    Returns:
        A new host descriptor.

    Raises:
        OSError: EXDEV for an attempt to leave; EAGAIN when a rename raced with a ``..``; ENOSYS
            where there is no such call; anything that ``open`` may say.
    """
    system = _syscall()
    if system is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call, get_errno = system
    how = _OPEN_HOW.pack(
        flags | os.O_CLOEXEC,
        mode if flags & os.O_CREAT else 0,
        _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS,
    )
    while True:
        fd = call(_SYS_OPENAT2, directory, path, how, _OPEN_HOW.size)
        if fd >= 0:
            return fd
        number = get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


@functools.cache
def has_openat2() -> bool:
    """Whether the kernel, and a seccomp filter over it, let ``openat2`` through. Asked once."""
    try:
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return False
    try:
        os.close(open_beneath(root, b".", os.O_PATH | os.O_DIRECTORY, 0))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


@functools.cache
def directory_reader() -> DirectoryReader | None:
    """``getdents64`` of the C library, or None where it has none.

    Wanted for its cookies: they stay right while entries come and go, which an index into a list
    of names does not.
    """
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).getdents64
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_ssize_t
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)

    def read(fd: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        while True:
            count: int = function(fd, buffer, size)
            if count >= 0:
                return buffer.raw[:count]
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    return read


def linux_entries(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Take ``getdents64`` records apart.

    Returns:
        ``(inode, cookie of the next entry, DT_* type, name)`` of each entry.
    """
    entries = []
    position = 0
    while position < len(data):
        inode, cookie, length, kind = _LINUX_DIRENT64.unpack_from(data, position)
        start = position + _LINUX_DIRENT64.size
        name = data[start : data.index(b"\0", start)]
        entries.append((inode, cookie, kind, name))
        position += length
    return entries

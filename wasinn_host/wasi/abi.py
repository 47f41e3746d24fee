"""Numbers and layouts of ``wasi_snapshot_preview1``. Not behaviour: that is in the call modules.

Every number of the interface stands here and nowhere else.

Source: WASI preview 1, ``typenames.witx`` and ``wasi_snapshot_preview1.witx`` of the WASI
repository (legacy/preview1), as wasi-libc's ``wasi/api.h`` spells them.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import Final

__all__ = [
    "CIOVEC",
    "DIRENT",
    "EVENT",
    "EVENT_HANGUP",
    "FDSTAT",
    "FILESTAT",
    "PREOPEN_DIR",
    "PRESTAT",
    "SUBCLOCK_ABSTIME",
    "SUBSCRIPTION",
    "Advice",
    "ClockId",
    "Errno",
    "EventType",
    "FdFlags",
    "FileType",
    "FstFlags",
    "LookupFlags",
    "OFlags",
    "Rights",
    "Whence",
]


class Errno(enum.IntEnum):
    """``errno``: what every call but ``proc_exit`` returns. ``TOOBIG`` is ``2big``."""

    SUCCESS = 0
    TOOBIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


class Rights:
    """``rights``: one bit for each thing a descriptor may be used for (u64).

    Plain integers, not an ``IntFlag``: they are tested on every call.
    """

    FD_DATASYNC: Final = 1 << 0
    FD_READ: Final = 1 << 1
    FD_SEEK: Final = 1 << 2
    FD_FDSTAT_SET_FLAGS: Final = 1 << 3
    FD_SYNC: Final = 1 << 4
    FD_TELL: Final = 1 << 5
    FD_WRITE: Final = 1 << 6
    FD_ADVISE: Final = 1 << 7
    FD_ALLOCATE: Final = 1 << 8
    PATH_CREATE_DIRECTORY: Final = 1 << 9
    PATH_CREATE_FILE: Final = 1 << 10
    PATH_LINK_SOURCE: Final = 1 << 11
    PATH_LINK_TARGET: Final = 1 << 12
    PATH_OPEN: Final = 1 << 13
    FD_READDIR: Final = 1 << 14
    PATH_READLINK: Final = 1 << 15
    PATH_RENAME_SOURCE: Final = 1 << 16
    PATH_RENAME_TARGET: Final = 1 << 17
    PATH_FILESTAT_GET: Final = 1 << 18
    PATH_FILESTAT_SET_SIZE: Final = 1 << 19
    PATH_FILESTAT_SET_TIMES: Final = 1 << 20
    FD_FILESTAT_GET: Final = 1 << 21
    FD_FILESTAT_SET_SIZE: Final = 1 << 22
    FD_FILESTAT_SET_TIMES: Final = 1 << 23
    PATH_SYMLINK: Final = 1 << 24
    PATH_REMOVE_DIRECTORY: Final = 1 << 25
    PATH_UNLINK_FILE: Final = 1 << 26
    POLL_FD_READWRITE: Final = 1 << 27
    SOCK_SHUTDOWN: Final = 1 << 28
    SOCK_ACCEPT: Final = 1 << 29

    ALL: Final = (1 << 30) - 1

    #: What makes sense on a regular file. Everything else is dropped from it without an error.
    FILE: Final = (
        FD_DATASYNC
        | FD_READ
        | FD_SEEK
        | FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_TELL
        | FD_WRITE
        | FD_ADVISE
        | FD_ALLOCATE
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_SIZE
        | FD_FILESTAT_SET_TIMES
        | POLL_FD_READWRITE
    )
    #: A pipe, terminal or other stream without a position. wasi-libc's ``isatty`` is "a character
    #: device without FD_SEEK and FD_TELL".
    STREAM: Final = FILE & ~(FD_SEEK | FD_TELL | FD_ADVISE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE)
    #: What makes sense on a directory. No FD_SEEK: its position is a cookie of ``fd_readdir``.
    DIRECTORY: Final = (
        FD_DATASYNC
        | FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | PATH_CREATE_DIRECTORY
        | PATH_CREATE_FILE
        | PATH_LINK_SOURCE
        | PATH_LINK_TARGET
        | PATH_OPEN
        | FD_READDIR
        | PATH_READLINK
        | PATH_RENAME_SOURCE
        | PATH_RENAME_TARGET
        | PATH_FILESTAT_GET
        | PATH_FILESTAT_SET_SIZE
        | PATH_FILESTAT_SET_TIMES
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | PATH_SYMLINK
        | PATH_REMOVE_DIRECTORY
        | PATH_UNLINK_FILE
    )
    #: Asking for one of these opens the host's file for writing.
    IMPLIES_WRITE: Final = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE
    #: Asking for one of these opens the host's file for reading.
    IMPLIES_READ: Final = FD_READ | FD_READDIR


class FileType(enum.IntEnum):
    """``filetype``. There is no number for a FIFO: wasi-libc takes SOCKET_STREAM as one."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class FdFlags:
    """``fdflags``."""

    APPEND: Final = 1
    DSYNC: Final = 2
    NONBLOCK: Final = 4
    RSYNC: Final = 8
    SYNC: Final = 16
    ALL: Final = 31


class OFlags:
    """``oflags`` of ``path_open``."""

    CREAT: Final = 1
    DIRECTORY: Final = 2
    EXCL: Final = 4
    TRUNC: Final = 8
    ALL: Final = 15


class LookupFlags:
    """``lookupflags`` of the ``path_*`` calls."""

    SYMLINK_FOLLOW: Final = 1
    ALL: Final = 1


class FstFlags:
    """``fstflags``: which times to set, and whether to the given value or to now."""

    ATIM: Final = 1
    ATIM_NOW: Final = 2
    MTIM: Final = 4
    MTIM_NOW: Final = 8
    ALL: Final = 15


class Whence:
    """``whence`` of ``fd_seek``; the same numbers as POSIX."""

    SET: Final = 0
    CUR: Final = 1
    END: Final = 2


class Advice(enum.IntEnum):
    """``advice`` of ``fd_advise``. SEQUENTIAL and RANDOM are swapped against Linux."""

    NORMAL = 0
    SEQUENTIAL = 1
    RANDOM = 2
    WILLNEED = 3
    DONTNEED = 4
    NOREUSE = 5


class ClockId(enum.IntEnum):
    """``clockid``."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPUTIME = 2
    THREAD_CPUTIME = 3


class EventType(enum.IntEnum):
    """``eventtype`` of ``poll_oneoff``."""

    CLOCK = 0
    FD_READ = 1
    FD_WRITE = 2


#: ``subclockflags``: the timeout is a point in time, not a span.
SUBCLOCK_ABSTIME: Final = 1
#: ``eventrwflags``: the other end is gone.
EVENT_HANGUP: Final = 1
#: ``preopentype``: the only kind there is.
PREOPEN_DIR: Final = 0

#: ``iovec`` and ``ciovec``: pointer, length in bytes.
CIOVEC: Final = Struct("<II")
#: ``fdstat``: filetype, flags, rights_base, rights_inheriting.
FDSTAT: Final = Struct("<BxHxxxxQQ")
#: ``filestat``: dev, ino, filetype, nlink, size, atim, mtim, ctim (times in ns since 1970).
FILESTAT: Final = Struct("<QQB7xQQQQQ")
#: ``prestat``: tag, length of the name in bytes.
PRESTAT: Final = Struct("<BxxxI")
#: ``dirent``: cookie of the next entry, inode, length of the name, filetype; the name follows.
DIRENT: Final = Struct("<QQIBxxx")
#: ``subscription`` with the clock arm of its union: userdata, tag, clock, timeout, precision,
#: flags. The fd arms keep their descriptor where ``clock`` is.
SUBSCRIPTION: Final = Struct("<QB7xI4xQQHxxxxxx")
#: ``event``: userdata, error, type, bytes available, flags.
EVENT: Final = Struct("<QHB5xQHxxxxxx")

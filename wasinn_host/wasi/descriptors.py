"""What a guest's descriptor number stands for. Not the numbers (``table``) nor the calls.

``Descriptor`` refuses everything; a kind overrides what it can do. Rights are checked by the
table before any of these methods runs; whether a thing is read-only is checked here, because it
is a property of the mount and not something a guest could be granted.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from struct import Struct
from typing import Final

from wasinn_host.wasi.abi import FILESTAT, Advice, Errno, FdFlags, FileType, Rights
from wasinn_host.wasi.errors import WasiError
from wasinn_host.wasi.guest import Caller

__all__ = [
    "Descriptor",
    "Directory",
    "HostFile",
    "filetype_of_mode",
    "pack_filestat",
]

_I64_MAX: Final = (1 << 63) - 1
_U64_MAX: Final = (1 << 64) - 1
#: Linux takes at most this many buffers in one call; a short count is a legal answer.
_IOV_MAX: Final = 1024
#: A pipe that poll calls writable takes this much without blocking (PIPE_BUF of Linux).
_PIPE_BUF: Final = 4096
#: ``FIONREAD`` of Linux, from ``asm-generic/ioctls.h``: bytes that wait to be read.
_FIONREAD: Final = 0x541B
_INT: Final = Struct("=i")

_FILETYPES: Final = {
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFREG: FileType.REGULAR_FILE,
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
    # WASI has no FIFO; wasi-libc's DT_FIFO and S_IFIFO are those of a stream socket.
    stat.S_IFIFO: FileType.SOCKET_STREAM,
}
_ADVICE: Final = {
    Advice.NORMAL: os.POSIX_FADV_NORMAL,
    Advice.SEQUENTIAL: os.POSIX_FADV_SEQUENTIAL,
    Advice.RANDOM: os.POSIX_FADV_RANDOM,
    Advice.WILLNEED: os.POSIX_FADV_WILLNEED,
    Advice.DONTNEED: os.POSIX_FADV_DONTNEED,
    Advice.NOREUSE: os.POSIX_FADV_NOREUSE,
}


def filetype_of_mode(mode: int) -> FileType:
    """``filetype`` for the ``st_mode`` of a host file."""
    return _FILETYPES.get(stat.S_IFMT(mode), FileType.UNKNOWN)


def _clamp_ns(time_ns: int) -> int:
    # Hosts store times before 1970 and far after 2554; WASI's u64 of nanoseconds can not. A file
    # with such a time stays readable this way, where an error would make it unusable.
    return min(max(time_ns, 0), _U64_MAX)


def pack_filestat(status: os.stat_result) -> bytes:
    """The 64 bytes of ``filestat``."""
    return FILESTAT.pack(
        status.st_dev & _U64_MAX,
        status.st_ino & _U64_MAX,
        filetype_of_mode(status.st_mode),
        status.st_nlink,
        status.st_size,
        _clamp_ns(status.st_atime_ns),
        _clamp_ns(status.st_mtime_ns),
        _clamp_ns(status.st_ctime_ns),
    )


class Descriptor:
    """Base of all kinds: has rights, refuses every operation with the errno POSIX would give.

    Args:
        base: rights of the descriptor itself.
        inheriting: the most rights that what is opened through it can get.
        flags: ``fdflags`` as the guest set them.
        read_only: mutating calls answer ROFS, here and for everything opened through it.
    """

    filetype: FileType = FileType.UNKNOWN
    #: Name of a preopened directory, for ``fd_prestat_*``.
    preopen_name: bytes | None = None
    #: What seeking answers without the right to.
    no_seek: Errno = Errno.SPIPE

    def __init__(
        self, base: int, inheriting: int = 0, flags: int = 0, *, read_only: bool = False
    ) -> None:
        self.base = base
        self.inheriting = inheriting
        self.flags = flags
        self.read_only = read_only

    def refuse_if_read_only(self) -> None:
        """Raises: WasiError: ROFS."""
        if self.read_only:
            raise WasiError(Errno.ROFS, "the directory is preopened read-only")

    def readv(self, caller: Caller, buffers: list[memoryview]) -> int:
        raise WasiError(Errno.BADF, "not open for reading")

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        raise WasiError(Errno.BADF, "not open for writing")

    def preadv(self, buffers: list[memoryview], offset: int) -> int:
        raise WasiError(Errno.SPIPE)

    def pwritev(self, buffers: list[memoryview], offset: int) -> int:
        raise WasiError(Errno.SPIPE)

    def seek(self, offset: int, whence: int) -> int:
        raise WasiError(Errno.SPIPE)

    def filestat(self) -> bytes:
        """The 64 bytes of ``filestat``; a stream without a host file knows only its type."""
        return FILESTAT.pack(0, 0, self.filetype, 0, 0, 0, 0, 0)

    def set_size(self, size: int) -> None:
        raise WasiError(Errno.INVAL, "has no size")

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        raise WasiError(Errno.INVAL, "has no times")

    def allocate(self, offset: int, length: int) -> None:
        raise WasiError(Errno.SPIPE)

    def advise(self, offset: int, length: int, advice: Advice) -> None:
        raise WasiError(Errno.SPIPE)

    def sync(self, *, data_only: bool) -> None:
        """Nothing to do for what is not on a disk."""

    def set_flags(self, flags: int) -> None:
        self.flags = flags

    def host_fd_to_poll(self) -> int | None:
        """What to wait on, or None when it never blocks."""
        return None

    def readable_bytes(self) -> int:
        """How much can be read at once, for ``poll_oneoff``."""
        return 0

    @property
    def is_socket(self) -> bool:
        return False

    def close(self) -> None:
        """Release host resources; called once."""


class _OnHost(Descriptor):
    """What files and directories share: a host descriptor.

    Args:
        fd: the host descriptor.
        owned: whether ``close`` closes it.
    """

    def __init__(
        self,
        fd: int,
        base: int,
        inheriting: int = 0,
        flags: int = 0,
        *,
        read_only: bool = False,
        owned: bool = True,
    ) -> None:
        super().__init__(base, inheriting, flags, read_only=read_only)
        self.fd = fd
        self._owned = owned

    def filestat(self) -> bytes:
        return pack_filestat(os.fstat(self.fd))

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self.refuse_if_read_only()
        if atim_ns is None or mtim_ns is None:
            status = os.fstat(self.fd)
            atim_ns = status.st_atime_ns if atim_ns is None else atim_ns
            mtim_ns = status.st_mtime_ns if mtim_ns is None else mtim_ns
        os.utime(self.fd, ns=(atim_ns, mtim_ns))

    def sync(self, *, data_only: bool) -> None:
        if data_only:
            os.fdatasync(self.fd)
        else:
            os.fsync(self.fd)

    def close(self) -> None:
        if self._owned:
            self._owned = False
            os.close(self.fd)


class HostFile(_OnHost):
    """Any open file of the host that is not a directory, also an inherited standard stream.

    Reads and writes go straight between the host and guest memory. What may block (pipes,
    terminals, sockets, devices) is waited for together with the caller's interrupt first.
    """

    def __init__(
        self,
        fd: int,
        mode: int,
        base: int,
        flags: int = 0,
        *,
        read_only: bool = False,
        owned: bool = True,
    ) -> None:
        self.filetype = filetype_of_mode(mode)
        self._waits = not (stat.S_ISREG(mode) or stat.S_ISBLK(mode))
        seekable = not self._waits or (stat.S_ISCHR(mode) and not os.isatty(fd))
        super().__init__(
            fd,
            base & (Rights.FILE if seekable else Rights.STREAM),
            flags=flags,
            read_only=read_only,
            owned=owned,
        )
        self.no_seek = Errno.NOTCAPABLE if seekable else Errno.SPIPE
        self._is_socket = stat.S_ISSOCK(mode)
        self._pollers: dict[tuple[int, int], select.poll] = {}

    def readv(self, caller: Caller, buffers: list[memoryview]) -> int:
        if not buffers:
            return 0
        if self._waits:
            self._wait(caller, select.POLLIN)
        return os.readv(self.fd, buffers[:_IOV_MAX])

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        if not buffers:
            return 0
        if not self._waits:
            return os.writev(self.fd, buffers[:_IOV_MAX])
        return self._write_waiting(caller, buffers)

    def _wait(self, caller: Caller, events: int) -> None:
        """Wait for readiness, or find out that the guest does not want to."""
        if self.flags & FdFlags.NONBLOCK:
            if not self._ready_now(events):
                raise WasiError(Errno.AGAIN)
        elif not self._wait_ready(caller.interrupt.fileno(), events):
            raise WasiError(Errno.INTR, "stopped while waiting for a stream")

    def _wait_ready(self, interrupt_fd: int, events: int) -> bool:
        """Wait for readiness; False when the guest is to be stopped.

        An error or hang-up is readiness too: the read or write then tells.
        """
        # Taken out while in use, since one poll object must not be polled by two threads.
        key = (interrupt_fd, events)
        poller = self._pollers.pop(key, None)
        if poller is None:
            poller = select.poll()
            poller.register(self.fd, events)
            poller.register(interrupt_fd, select.POLLIN)
        ready = any(fd == self.fd for fd, _ in poller.poll())
        self._pollers[key] = poller
        return ready

    def _write_waiting(self, caller: Caller, buffers: list[memoryview]) -> int:
        """Write to something that may block, in pieces that do not block once it is ready.

        One big blocking write could not be interrupted while nobody reads the other end.
        """
        if len(buffers) <= _IOV_MAX and sum(map(len, buffers)) <= _PIPE_BUF:
            self._wait(caller, select.POLLOUT)
            return os.writev(self.fd, buffers)
        written = 0
        try:
            for buffer in buffers:
                start = 0
                while start < len(buffer):
                    self._wait(caller, select.POLLOUT)
                    count = os.write(self.fd, buffer[start : start + _PIPE_BUF])
                    start += count
                    written += count
        except (WasiError, OSError):
            # Tell what went out; the next call meets the obstacle again.
            if not written:
                raise
        return written

    def _ready_now(self, events: int) -> bool:
        poller = select.poll()
        poller.register(self.fd, events)
        return bool(poller.poll(0))

    def preadv(self, buffers: list[memoryview], offset: int) -> int:
        if not buffers:
            return 0
        return os.preadv(self.fd, buffers[:_IOV_MAX], _offset(offset))

    def pwritev(self, buffers: list[memoryview], offset: int) -> int:
        if not buffers:
            return 0
        return os.pwritev(self.fd, buffers[:_IOV_MAX], _offset(offset))

    def seek(self, offset: int, whence: int) -> int:
        return os.lseek(self.fd, offset, whence)

    def set_size(self, size: int) -> None:
        self.refuse_if_read_only()
        if size > _I64_MAX:
            raise WasiError(Errno.FBIG)
        os.ftruncate(self.fd, size)

    def allocate(self, offset: int, length: int) -> None:
        self.refuse_if_read_only()
        if length == 0:
            raise WasiError(Errno.INVAL, "nothing to allocate")
        if offset + length > _I64_MAX:
            raise WasiError(Errno.FBIG)
        # fallocate would fill the disk before it says that the disk is full.
        room = os.fstatvfs(self.fd)
        if offset + length - os.fstat(self.fd).st_size > room.f_bavail * room.f_frsize:
            raise WasiError(Errno.NOSPC)
        os.posix_fallocate(self.fd, offset, length)

    def advise(self, offset: int, length: int, advice: Advice) -> None:
        if offset > _I64_MAX or length > _I64_MAX:
            raise WasiError(Errno.INVAL)
        os.posix_fadvise(self.fd, offset, length, _ADVICE[advice])

    def set_flags(self, flags: int) -> None:
        changed = flags ^ self.flags
        if changed & (FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC):
            raise WasiError(Errno.NOTSUP, "sync flags can not be changed once a file is open")
        if changed & FdFlags.APPEND:
            host_flags = fcntl.fcntl(self.fd, fcntl.F_GETFL) & ~os.O_APPEND
            append = os.O_APPEND if flags & FdFlags.APPEND else 0
            fcntl.fcntl(self.fd, fcntl.F_SETFL, host_flags | append)
        self.flags = flags

    def host_fd_to_poll(self) -> int | None:
        return self.fd if self._waits else None

    def readable_bytes(self) -> int:
        if not self._waits:
            return max(os.fstat(self.fd).st_size - os.lseek(self.fd, 0, os.SEEK_CUR), 0)
        try:
            answer = fcntl.ioctl(self.fd, _FIONREAD, bytes(_INT.size))
        except OSError:
            # Not every device can say; then only "something" is known.
            return 1
        waiting: int = _INT.unpack(answer)[0]
        return max(waiting, 0)

    @property
    def is_socket(self) -> bool:
        return self._is_socket


def _offset(offset: int) -> int:
    if offset > _I64_MAX:
        raise WasiError(Errno.INVAL, "offset beyond 2**63-1")
    return offset


class Directory(_OnHost):
    """An open directory. Paths are resolved below it and never leave it."""

    filetype = FileType.DIRECTORY
    no_seek = Errno.ISDIR

    def __init__(
        self,
        fd: int,
        base: int,
        inheriting: int,
        *,
        read_only: bool = False,
        preopen_name: bytes | None = None,
    ) -> None:
        if read_only:
            # wasi-libc's access(W_OK) looks at this bit. The other writing rights stay visible,
            # so that its open(O_RDWR) still asks for them and is told ROFS, as POSIX has it.
            inheriting &= ~Rights.FD_WRITE
        super().__init__(fd, base & Rights.DIRECTORY, inheriting, read_only=read_only)
        self.preopen_name = preopen_name

    def readv(self, caller: Caller, buffers: list[memoryview]) -> int:
        raise WasiError(Errno.ISDIR)

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        raise WasiError(Errno.ISDIR)

    def set_flags(self, flags: int) -> None:
        if flags:
            raise WasiError(Errno.INVAL, "a directory has no flags")

"""The ``fd_*`` calls: guest pointers and rights on one side, ``Descriptor`` on the other.

Pattern of each: check that results will fit, check rights, read what the guest gave, act, write
the result. So a bad pointer is found before anything happened.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from struct import Struct
from typing import Final

from wasinn_host.wasi.abi import (
    DIRENT,
    FDSTAT,
    PREOPEN_DIR,
    PRESTAT,
    Advice,
    Errno,
    FdFlags,
    FstFlags,
    Rights,
    Whence,
)
from wasinn_host.wasi.descriptors import Directory, filetype_of_mode
from wasinn_host.wasi.errors import WasiError
from wasinn_host.wasi.guest import Caller, check_range, memory_of, read_iovecs
from wasinn_host.wasi.kernel import directory_reader, linux_entries
from wasinn_host.wasi.table import DescriptorTable

__all__ = ["FdCalls", "requested_times"]

_I64_MAX: Final = (1 << 63) - 1
_U32: Final = Struct("<I")
#: Room for one kernel record with the longest name, and a bound on what is read at once.
_READDIR_MIN: Final = 512
_READDIR_MAX: Final = 64 << 10


def requested_times(atim: int, mtim: int, flags: int) -> tuple[int | None, int | None]:
    """Times to set in nanoseconds, None for one to leave as it is.

    Raises:
        WasiError: INVAL, unknown flags, or both "this value" and "now" for one time.
    """
    both_a = FstFlags.ATIM | FstFlags.ATIM_NOW
    both_m = FstFlags.MTIM | FstFlags.MTIM_NOW
    if flags & ~FstFlags.ALL or flags & both_a == both_a or flags & both_m == both_m:
        raise WasiError(Errno.INVAL, f"fst_flags {flags:#x}")
    now = time.time_ns()
    return (
        now if flags & FstFlags.ATIM_NOW else atim if flags & FstFlags.ATIM else None,
        now if flags & FstFlags.MTIM_NOW else mtim if flags & FstFlags.MTIM else None,
    )


def _buffers(whole: memoryview, iovs: int, iovs_len: int, out: int) -> list[memoryview]:
    """The guest's buffers, once it is known that the count will fit at ``out``."""
    if out + 4 > len(whole):
        raise WasiError(Errno.FAULT, f"4 bytes at {out:#x} are outside the memory")
    return read_iovecs(whole, iovs, iovs_len)


class FdCalls:
    """Calls on open descriptors."""

    def __init__(self, table: DescriptorTable) -> None:
        self._table = table

    # Reading and writing.

    def fd_write(self, caller: Caller, fd: int, iovs: int, iovs_len: int, nwritten: int) -> None:
        descriptor = self._table.get(fd, Rights.FD_WRITE)
        whole = memory_of(caller).view()
        buffers = _buffers(whole, iovs, iovs_len, nwritten)
        _U32.pack_into(whole, nwritten, descriptor.writev(caller, buffers))

    def fd_read(self, caller: Caller, fd: int, iovs: int, iovs_len: int, nread: int) -> None:
        descriptor = self._table.get(fd, Rights.FD_READ)
        whole = memory_of(caller).view()
        buffers = _buffers(whole, iovs, iovs_len, nread)
        _U32.pack_into(whole, nread, descriptor.readv(caller, buffers))

    def fd_pread(
        self, caller: Caller, fd: int, iovs: int, iovs_len: int, offset: int, nread: int
    ) -> None:
        descriptor = self._table.get(fd, Rights.FD_READ)
        if not descriptor.base & Rights.FD_SEEK:
            raise WasiError(descriptor.no_seek)
        whole = memory_of(caller).view()
        buffers = _buffers(whole, iovs, iovs_len, nread)
        _U32.pack_into(whole, nread, descriptor.preadv(buffers, offset))

    def fd_pwrite(
        self, caller: Caller, fd: int, iovs: int, iovs_len: int, offset: int, nwritten: int
    ) -> None:
        descriptor = self._table.get(fd, Rights.FD_WRITE)
        if not descriptor.base & Rights.FD_SEEK:
            raise WasiError(descriptor.no_seek)
        whole = memory_of(caller).view()
        buffers = _buffers(whole, iovs, iovs_len, nwritten)
        _U32.pack_into(whole, nwritten, descriptor.pwritev(buffers, offset))

    def fd_seek(self, caller: Caller, fd: int, offset: int, whence: int, newoffset: int) -> None:
        # Asking where one is needs only the right to tell.
        needed = Rights.FD_TELL if not offset and whence == Whence.CUR else Rights.FD_SEEK
        descriptor = self._table.get(fd)
        if not descriptor.base & needed:
            raise WasiError(descriptor.no_seek)
        if whence > Whence.END:
            raise WasiError(Errno.INVAL, f"whence {whence}")
        memory = memory_of(caller)
        check_range(memory, newoffset, 8)
        signed = offset - (1 << 64) if offset > _I64_MAX else offset
        memory.write_u64(newoffset, descriptor.seek(signed, whence))

    def fd_tell(self, caller: Caller, fd: int, out: int) -> None:
        descriptor = self._table.get(fd)
        if not descriptor.base & Rights.FD_TELL:
            raise WasiError(descriptor.no_seek)
        memory = memory_of(caller)
        check_range(memory, out, 8)
        memory.write_u64(out, descriptor.seek(0, Whence.CUR))

    def fd_sync(self, caller: Caller, fd: int) -> None:
        self._table.get(fd, Rights.FD_SYNC).sync(data_only=False)

    def fd_datasync(self, caller: Caller, fd: int) -> None:
        self._table.get(fd, Rights.FD_DATASYNC).sync(data_only=True)

    def fd_advise(self, caller: Caller, fd: int, offset: int, length: int, advice: int) -> None:
        descriptor = self._table.get(fd, Rights.FD_ADVISE)
        if advice > Advice.NOREUSE:
            raise WasiError(Errno.INVAL, f"advice {advice}")
        descriptor.advise(offset, length, Advice(advice))

    def fd_allocate(self, caller: Caller, fd: int, offset: int, length: int) -> None:
        self._table.get(fd, Rights.FD_ALLOCATE).allocate(offset, length)

    # The descriptor itself.

    def fd_close(self, caller: Caller, fd: int) -> None:
        self._table.close(fd)

    def fd_renumber(self, caller: Caller, fd: int, to: int) -> None:
        self._table.renumber(fd, to)

    def fd_fdstat_get(self, caller: Caller, fd: int, out: int) -> None:
        descriptor = self._table.get(fd)
        memory_of(caller).write(
            out,
            FDSTAT.pack(
                descriptor.filetype, descriptor.flags, descriptor.base, descriptor.inheriting
            ),
        )

    def fd_fdstat_set_flags(self, caller: Caller, fd: int, flags: int) -> None:
        descriptor = self._table.get(fd, Rights.FD_FDSTAT_SET_FLAGS)
        if flags & ~FdFlags.ALL:
            raise WasiError(Errno.INVAL, f"fdflags {flags:#x}")
        descriptor.set_flags(flags)

    def fd_fdstat_set_rights(self, caller: Caller, fd: int, base: int, inheriting: int) -> None:
        descriptor = self._table.get(fd)
        if base & ~descriptor.base or inheriting & ~descriptor.inheriting:
            raise WasiError(Errno.NOTCAPABLE, "rights can only be given up")
        descriptor.base = base
        descriptor.inheriting = inheriting

    def fd_filestat_get(self, caller: Caller, fd: int, out: int) -> None:
        descriptor = self._table.get(fd, Rights.FD_FILESTAT_GET)
        memory = memory_of(caller)
        check_range(memory, out, 64)
        memory.write(out, descriptor.filestat())

    def fd_filestat_set_size(self, caller: Caller, fd: int, size: int) -> None:
        self._table.get(fd, Rights.FD_FILESTAT_SET_SIZE).set_size(size)

    def fd_filestat_set_times(
        self, caller: Caller, fd: int, atim: int, mtim: int, fst_flags: int
    ) -> None:
        descriptor = self._table.get(fd, Rights.FD_FILESTAT_SET_TIMES)
        times = requested_times(atim, mtim, fst_flags)
        descriptor.set_times(*times)

    # Directories.

    def fd_prestat_get(self, caller: Caller, fd: int, out: int) -> None:
        name = self._preopen_name(fd)
        memory_of(caller).write(out, PRESTAT.pack(PREOPEN_DIR, len(name)))

    def fd_prestat_dir_name(self, caller: Caller, fd: int, path: int, path_len: int) -> None:
        name = self._preopen_name(fd)
        if path_len < len(name):
            raise WasiError(Errno.NAMETOOLONG, f"the name has {len(name)} bytes")
        memory_of(caller).write(path, name)

    def _preopen_name(self, fd: int) -> bytes:
        name = self._table.get(fd).preopen_name
        if name is None:
            raise WasiError(Errno.BADF, f"descriptor {fd} is not a preopened directory")
        return name

    def fd_readdir(
        self, caller: Caller, fd: int, buf: int, buf_len: int, cookie: int, bufused: int
    ) -> None:
        directory = self._table.directory(fd, Rights.FD_READDIR)
        memory = memory_of(caller)
        check_range(memory, bufused, 4)
        room = memory.view(buf, buf_len)
        memory.write_u32(bufused, _read_directory(caller, directory, room, cookie))


def _read_directory(caller: Caller, directory: Directory, room: memoryview, cookie: int) -> int:
    """Fill ``room`` with entries from ``cookie`` on; the last one may be cut off.

    Less than all of ``room`` used means the end of the directory. Cookies are the kernel's own
    positions, so they stay right while others add and remove entries.

    Returns:
        Bytes used.
    """
    read = directory_reader()
    if read is None:
        raise WasiError(Errno.NOSYS, "the C library has no getdents64")
    if cookie > _I64_MAX:
        raise WasiError(Errno.INVAL, f"cookie {cookie:#x} was never given out")
    os.lseek(directory.fd, cookie, os.SEEK_SET)
    # The parent of a preopened directory is none of the guest's business: ".." of it is itself.
    parent_inode = os.fstat(directory.fd).st_ino if directory.preopen_name is not None else None
    used = 0
    size = max(_READDIR_MIN, min(len(room), _READDIR_MAX))
    while used < len(room):
        try:
            data = read(directory.fd, size)
        except OSError as error:
            # The directory was removed while open; there is nothing left to read.
            if error.errno == errno.ENOENT:
                break
            raise
        if not data:
            break
        for inode, next_cookie, kind, name in linux_entries(data):
            if parent_inode is not None and name == b"..":
                inode = parent_inode
            # DT_* is the file type part of st_mode, shifted.
            filetype = filetype_of_mode(stat.S_IFMT(kind << 12))
            entry = DIRENT.pack(next_cookie, inode, len(name), filetype) + name
            count = min(len(entry), len(room) - used)
            room[used : used + count] = entry[:count]
            used += count
            if used == len(room):
                break
        if caller.interrupt.is_set():
            raise WasiError(Errno.INTR)
    return used

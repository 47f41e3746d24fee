"""The ``path_*`` calls. Where a path leads is decided in ``paths``; here is what is done there.

Whatever changes a name works on ``(descriptor of its directory, one component)`` and never
follows a link on the host's side.
"""

from __future__ import annotations

import os
import stat

from wasinn_host.wasi.abi import Errno, FdFlags, LookupFlags, OFlags, Rights
from wasinn_host.wasi.descriptors import Descriptor, Directory, HostFile, pack_filestat
from wasinn_host.wasi.errors import WasiError
from wasinn_host.wasi.fd_calls import requested_times
from wasinn_host.wasi.guest import Caller, check_range, memory_of, read_path
from wasinn_host.wasi.paths import Place, Resolver
from wasinn_host.wasi.table import DescriptorTable

__all__ = ["PathCalls"]


class PathCalls:
    """Calls on paths below an open directory."""

    def __init__(self, table: DescriptorTable, resolver: Resolver) -> None:
        self._table = table
        self._resolver = resolver

    def path_open(
        self,
        caller: Caller,
        fd: int,
        dirflags: int,
        path: int,
        path_len: int,
        oflags: int,
        base: int,
        inheriting: int,
        fdflags: int,
        opened_fd: int,
    ) -> None:
        memory = memory_of(caller)
        check_range(memory, opened_fd, 4)
        name = read_path(memory, path, path_len)
        needed = Rights.PATH_OPEN
        if oflags & OFlags.CREAT:
            needed |= Rights.PATH_CREATE_FILE
        if oflags & OFlags.TRUNC:
            needed |= Rights.PATH_FILESTAT_SET_SIZE
        directory = self._table.directory(fd, needed)
        follow = _follow(dirflags)
        if oflags & ~OFlags.ALL or fdflags & ~FdFlags.ALL:
            raise WasiError(Errno.INVAL, f"oflags {oflags:#x}, fdflags {fdflags:#x}")
        if oflags & OFlags.DIRECTORY and oflags & (OFlags.CREAT | OFlags.TRUNC):
            raise WasiError(Errno.INVAL, "a directory is neither created nor emptied by path_open")
        # wasi-libc and others ask for all bits there are; drop what no file has.
        base &= Rights.FILE | Rights.DIRECTORY
        writes = bool(base & Rights.IMPLIES_WRITE) or bool(oflags & OFlags.TRUNC)
        if writes or oflags & OFlags.CREAT:
            directory.refuse_if_read_only()
        missing = base & ~directory.inheriting
        if missing:
            raise WasiError(Errno.NOTCAPABLE, f"rights {missing:#x} are not inherited")
        self._table.refuse_if_full()
        host_fd = self._resolver.open(
            directory.fd,
            name,
            _host_flags(oflags, fdflags, reads=bool(base & Rights.IMPLIES_READ), writes=writes),
            follow=follow,
            mode=0o666,
        )
        try:
            opened = _descriptor(host_fd, base, inheriting, fdflags, directory)
        except BaseException:
            os.close(host_fd)
            raise
        memory.write_u32(opened_fd, self._table.add(opened))

    def path_filestat_get(
        self, caller: Caller, fd: int, flags: int, path: int, path_len: int, out: int
    ) -> None:
        memory = memory_of(caller)
        check_range(memory, out, 64)
        name = read_path(memory, path, path_len)
        directory = self._table.directory(fd, Rights.PATH_FILESTAT_GET)
        # A descriptor that can do nothing but be asked what it is; needs no permission to read.
        host_fd = self._resolver.open(directory.fd, name, os.O_PATH, follow=_follow(flags))
        try:
            status = os.fstat(host_fd)
        finally:
            os.close(host_fd)
        memory.write(out, pack_filestat(status))

    def path_filestat_set_times(
        self,
        caller: Caller,
        fd: int,
        flags: int,
        path: int,
        path_len: int,
        atim: int,
        mtim: int,
        fst_flags: int,
    ) -> None:
        name = read_path(memory_of(caller), path, path_len)
        directory = self._table.directory(fd, Rights.PATH_FILESTAT_SET_TIMES)
        directory.refuse_if_read_only()
        atim_ns, mtim_ns = requested_times(atim, mtim, fst_flags)
        follow = _follow(flags) or name.endswith(b"/")
        resolve = self._resolver.target if follow else self._resolver.parent
        with resolve(directory.fd, name) as place:
            status = place.lstat()
            if place.must_be_directory and not stat.S_ISDIR(status.st_mode):
                raise WasiError(Errno.NOTDIR)
            os.utime(
                place.name,
                ns=(
                    status.st_atime_ns if atim_ns is None else atim_ns,
                    status.st_mtime_ns if mtim_ns is None else mtim_ns,
                ),
                dir_fd=place.directory,
                follow_symlinks=False,
            )

    def path_create_directory(self, caller: Caller, fd: int, path: int, path_len: int) -> None:
        with self._changing(caller, fd, path, path_len, Rights.PATH_CREATE_DIRECTORY) as place:
            os.mkdir(place.name, 0o777, dir_fd=place.directory)

    def path_remove_directory(self, caller: Caller, fd: int, path: int, path_len: int) -> None:
        with self._changing(caller, fd, path, path_len, Rights.PATH_REMOVE_DIRECTORY) as place:
            os.rmdir(place.name, dir_fd=place.directory)

    def path_unlink_file(self, caller: Caller, fd: int, path: int, path_len: int) -> None:
        with self._changing(caller, fd, path, path_len, Rights.PATH_UNLINK_FILE) as place:
            if place.must_be_directory:
                is_directory = stat.S_ISDIR(place.lstat().st_mode)
                raise WasiError(Errno.ISDIR if is_directory else Errno.NOTDIR)
            os.unlink(place.name, dir_fd=place.directory)

    def path_symlink(
        self,
        caller: Caller,
        old_path: int,
        old_path_len: int,
        fd: int,
        new_path: int,
        new_path_len: int,
    ) -> None:
        target = read_path(memory_of(caller), old_path, old_path_len)
        if target.startswith(b"/"):
            raise WasiError(Errno.NOTCAPABLE, "a symbolic link to an absolute path")
        with self._changing(caller, fd, new_path, new_path_len, Rights.PATH_SYMLINK) as place:
            _refuse_trailing_slash(place)
            os.symlink(target, place.name, dir_fd=place.directory)

    def path_readlink(
        self, caller: Caller, fd: int, path: int, path_len: int, buf: int, buf_len: int, out: int
    ) -> None:
        memory = memory_of(caller)
        check_range(memory, out, 4)
        check_range(memory, buf, buf_len)
        name = read_path(memory, path, path_len)
        directory = self._table.directory(fd, Rights.PATH_READLINK)
        with self._resolver.parent(directory.fd, name) as place:
            if place.must_be_directory:
                is_directory = stat.S_ISDIR(place.lstat().st_mode)
                raise WasiError(Errno.INVAL if is_directory else Errno.NOTDIR)
            target = os.readlink(place.name, dir_fd=place.directory)
        if target.startswith(b"/"):
            # It can not be followed either, and its text tells where things lie on the host.
            raise WasiError(Errno.NOTCAPABLE, "absolute target of a symbolic link")
        target = target[:buf_len]
        memory.write(buf, target)
        memory.write_u32(out, len(target))

    def path_rename(
        self,
        caller: Caller,
        fd: int,
        old_path: int,
        old_path_len: int,
        new_fd: int,
        new_path: int,
        new_path_len: int,
    ) -> None:
        source = Rights.PATH_RENAME_SOURCE
        target = Rights.PATH_RENAME_TARGET
        with (
            self._changing(caller, fd, old_path, old_path_len, source) as old,
            self._changing(caller, new_fd, new_path, new_path_len, target) as new,
        ):
            if (old.must_be_directory or new.must_be_directory) and not stat.S_ISDIR(
                old.lstat().st_mode
            ):
                raise WasiError(Errno.NOTDIR, "a trailing slash, and it is not a directory")
            os.rename(old.name, new.name, src_dir_fd=old.directory, dst_dir_fd=new.directory)

    def path_link(
        self,
        caller: Caller,
        old_fd: int,
        old_flags: int,
        old_path: int,
        old_path_len: int,
        new_fd: int,
        new_path: int,
        new_path_len: int,
    ) -> None:
        name = read_path(memory_of(caller), old_path, old_path_len)
        source = self._table.directory(old_fd, Rights.PATH_LINK_SOURCE)
        # A second name in a writable place would make the file writable.
        source.refuse_if_read_only()
        resolve = self._resolver.target if _follow(old_flags) else self._resolver.parent
        target = Rights.PATH_LINK_TARGET
        with (
            self._changing(caller, new_fd, new_path, new_path_len, target) as new,
            resolve(source.fd, name) as old,
        ):
            if old.must_be_directory and not stat.S_ISDIR(old.lstat().st_mode):
                raise WasiError(Errno.NOTDIR)
            _refuse_trailing_slash(new)
            os.link(
                old.name,
                new.name,
                src_dir_fd=old.directory,
                dst_dir_fd=new.directory,
                follow_symlinks=False,
            )

    def _changing(self, caller: Caller, fd: int, path: int, path_len: int, right: int) -> Place:
        """The place of a name that is about to be made, replaced or removed."""
        name = read_path(memory_of(caller), path, path_len)
        directory = self._table.directory(fd, right)
        directory.refuse_if_read_only()
        return self._resolver.parent(directory.fd, name)


def _follow(flags: int) -> bool:
    if flags & ~LookupFlags.ALL:
        raise WasiError(Errno.INVAL, f"lookupflags {flags:#x}")
    return bool(flags & LookupFlags.SYMLINK_FOLLOW)


def _refuse_trailing_slash(place: Place) -> None:
    """A link's own name does not end with a slash; answer as Linux does."""
    if place.must_be_directory:
        is_directory = stat.S_ISDIR(place.lstat().st_mode)
        raise WasiError(Errno.EXIST if is_directory else Errno.NOTDIR)


def _host_flags(oflags: int, fdflags: int, *, reads: bool, writes: bool) -> int:
    # Non-blocking, so that a FIFO without a writer does not hold the guest here; later reads and
    # writes wait for readiness themselves. No effect on files and directories.
    flags = os.O_NONBLOCK | os.O_NOCTTY
    flags |= (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
    if oflags & OFlags.CREAT:
        flags |= os.O_CREAT
    if oflags & OFlags.DIRECTORY:
        flags |= os.O_DIRECTORY
    if oflags & OFlags.EXCL:
        flags |= os.O_EXCL
    if oflags & OFlags.TRUNC:
        flags |= os.O_TRUNC
    if fdflags & FdFlags.APPEND:
        flags |= os.O_APPEND
    if fdflags & FdFlags.DSYNC:
        flags |= os.O_DSYNC
    if fdflags & (FdFlags.RSYNC | FdFlags.SYNC):
        flags |= os.O_SYNC
    return flags


def _descriptor(
    host_fd: int, base: int, inheriting: int, fdflags: int, parent: Directory
) -> Descriptor:
    mode = os.fstat(host_fd).st_mode
    if stat.S_ISDIR(mode):
        return Directory(host_fd, base, inheriting & parent.inheriting, read_only=parent.read_only)
    return HostFile(host_fd, mode, base, fdflags, read_only=parent.read_only)

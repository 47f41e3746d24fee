"""The functions of ``wasi_snapshot_preview1`` as one table. Not their meaning: see the calls.

A row names the parameters in the words of the specification and says of each what kind of thing
it is. The WebAssembly type of the import and the line that ``--trace=wasi`` prints both come from
the row.

Source: WASI preview 1, ``wasi_snapshot_preview1.witx``.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["MODULE", "SIGNATURES", "Kind", "Signature"]

MODULE: Final = "wasi_snapshot_preview1"

_I32: Final = ValType.I32
_I64: Final = ValType.I64


class Kind(enum.Enum):
    """What a parameter is; the value is its WebAssembly types, one or two words of the call."""

    FD = (_I32, "fd")
    I32 = (_I32, "i32")
    FLAGS = (_I32, "flags")
    U64 = (_I64, "u64")
    S64 = (_I64, "s64")
    RIGHTS = (_I64, "rights")
    #: pointer to something the host fills and the trace does not show
    PTR = (_I32, "ptr")
    #: pointer and length of text the guest gives
    PATH = (_I32, _I32, "path")
    #: pointer and length of memory the host fills
    BUF = (_I32, _I32, "buf")
    #: pointer and number of iovecs
    IOVS = (_I32, _I32, "iovs")
    #: pointer to a result that the trace shows
    OUT_U32 = (_I32, "out32")
    OUT_U64 = (_I32, "out64")

    @property
    def types(self) -> tuple[ValType, ...]:
        return tuple(word for word in self.value if isinstance(word, ValType))


class Signature(NamedTuple):
    """One function: its name, its parameters in order, and whether it returns an errno."""

    name: str
    params: tuple[tuple[str, Kind], ...]
    returns_errno: bool = True

    @property
    def type(self) -> FuncType:
        """The WebAssembly type of the import."""
        types = tuple(t for _, kind in self.params for t in kind.types)
        return FuncType(types, (_I32,) if self.returns_errno else ())

    @property
    def arity(self) -> int:
        """How many WebAssembly parameters there are."""
        return sum(len(kind.types) for _, kind in self.params)


def _row(name: str, *params: tuple[str, Kind]) -> Signature:
    return Signature(name, params, name != "proc_exit")


_FD: Final = ("fd", Kind.FD)
_PATH: Final = ("path", Kind.PATH)
_IOVS: Final = ("iovs", Kind.IOVS)
_TIMES: Final = (("atim", Kind.U64), ("mtim", Kind.U64), ("fst_flags", Kind.FLAGS))

SIGNATURES: Final[tuple[Signature, ...]] = (
    _row("args_get", ("argv", Kind.PTR), ("argv_buf", Kind.PTR)),
    _row("args_sizes_get", ("argc", Kind.OUT_U32), ("argv_buf_size", Kind.OUT_U32)),
    _row("environ_get", ("environ", Kind.PTR), ("environ_buf", Kind.PTR)),
    _row("environ_sizes_get", ("environc", Kind.OUT_U32), ("environ_buf_size", Kind.OUT_U32)),
    _row("clock_res_get", ("id", Kind.I32), ("resolution", Kind.OUT_U64)),
    _row("clock_time_get", ("id", Kind.I32), ("precision", Kind.U64), ("time", Kind.OUT_U64)),
    _row("fd_advise", _FD, ("offset", Kind.U64), ("len", Kind.U64), ("advice", Kind.I32)),
    _row("fd_allocate", _FD, ("offset", Kind.U64), ("len", Kind.U64)),
    _row("fd_close", _FD),
    _row("fd_datasync", _FD),
    _row("fd_fdstat_get", _FD, ("stat", Kind.PTR)),
    _row("fd_fdstat_set_flags", _FD, ("flags", Kind.FLAGS)),
    _row("fd_fdstat_set_rights", _FD, ("base", Kind.RIGHTS), ("inheriting", Kind.RIGHTS)),
    _row("fd_filestat_get", _FD, ("stat", Kind.PTR)),
    _row("fd_filestat_set_size", _FD, ("size", Kind.U64)),
    _row("fd_filestat_set_times", _FD, *_TIMES),
    _row("fd_pread", _FD, _IOVS, ("offset", Kind.U64), ("nread", Kind.OUT_U32)),
    _row("fd_prestat_get", _FD, ("prestat", Kind.PTR)),
    _row("fd_prestat_dir_name", _FD, ("path", Kind.BUF)),
    _row("fd_pwrite", _FD, _IOVS, ("offset", Kind.U64), ("nwritten", Kind.OUT_U32)),
    _row("fd_read", _FD, _IOVS, ("nread", Kind.OUT_U32)),
    _row("fd_readdir", _FD, ("buf", Kind.BUF), ("cookie", Kind.U64), ("bufused", Kind.OUT_U32)),
    _row("fd_renumber", _FD, ("to", Kind.FD)),
    _row(
        "fd_seek",
        _FD,
        ("offset", Kind.S64),
        ("whence", Kind.I32),
        ("newoffset", Kind.OUT_U64),
    ),
    _row("fd_sync", _FD),
    _row("fd_tell", _FD, ("offset", Kind.OUT_U64)),
    _row("fd_write", _FD, _IOVS, ("nwritten", Kind.OUT_U32)),
    _row("path_create_directory", _FD, _PATH),
    _row("path_filestat_get", _FD, ("flags", Kind.FLAGS), _PATH, ("stat", Kind.PTR)),
    _row("path_filestat_set_times", _FD, ("flags", Kind.FLAGS), _PATH, *_TIMES),
    _row(
        "path_link",
        ("old_fd", Kind.FD),
        ("old_flags", Kind.FLAGS),
        ("old_path", Kind.PATH),
        ("new_fd", Kind.FD),
        ("new_path", Kind.PATH),
    ),
    _row(
        "path_open",
        _FD,
        ("dirflags", Kind.FLAGS),
        _PATH,
        ("oflags", Kind.FLAGS),
        ("base", Kind.RIGHTS),
        ("inheriting", Kind.RIGHTS),
        ("fdflags", Kind.FLAGS),
        ("opened_fd", Kind.OUT_U32),
    ),
    _row("path_readlink", _FD, _PATH, ("buf", Kind.BUF), ("bufused", Kind.OUT_U32)),
    _row("path_remove_directory", _FD, _PATH),
    _row("path_rename", _FD, ("old_path", Kind.PATH), ("new_fd", Kind.FD), ("new_path", Kind.PATH)),
    _row("path_symlink", ("old_path", Kind.PATH), _FD, ("new_path", Kind.PATH)),
    _row("path_unlink_file", _FD, _PATH),
    _row(
        "poll_oneoff",
        ("in", Kind.PTR),
        ("out", Kind.PTR),
        ("nsubscriptions", Kind.I32),
        ("nevents", Kind.OUT_U32),
    ),
    _row("proc_exit", ("rval", Kind.I32)),
    _row("proc_raise", ("sig", Kind.I32)),
    _row("sched_yield"),
    _row("random_get", ("buf", Kind.BUF)),
    _row("sock_accept", _FD, ("flags", Kind.FLAGS), ("accepted", Kind.OUT_U32)),
    _row(
        "sock_recv",
        _FD,
        ("ri_data", Kind.IOVS),
        ("ri_flags", Kind.FLAGS),
        ("ro_datalen", Kind.OUT_U32),
        ("ro_flags", Kind.PTR),
    ),
    _row(
        "sock_send",
        _FD,
        ("si_data", Kind.IOVS),
        ("si_flags", Kind.FLAGS),
        ("so_datalen", Kind.OUT_U32),
    ),
    _row("sock_shutdown", _FD, ("how", Kind.FLAGS)),
)

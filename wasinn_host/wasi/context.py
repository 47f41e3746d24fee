"""One guest's WASI: what its configuration opened, and the functions it imports."""

from __future__ import annotations

import os
from collections.abc import Iterator

from wasinn_host.wasi.abi import Errno, Rights
from wasinn_host.wasi.config import Preopen, WasiConfig
from wasinn_host.wasi.descriptors import Descriptor, Directory
from wasinn_host.wasi.errors import StreamFailure, WasiError, errno_from_os
from wasinn_host.wasi.fd_calls import FdCalls
from wasinn_host.wasi.guest import Caller, WasiFunction
from wasinn_host.wasi.path_calls import PathCalls
from wasinn_host.wasi.paths import Resolver, default_resolver
from wasinn_host.wasi.poll_calls import PollCalls
from wasinn_host.wasi.process_calls import ProcessCalls, SocketCalls
from wasinn_host.wasi.signatures import SIGNATURES
from wasinn_host.wasi.streams import open_stdin, open_stdout
from wasinn_host.wasi.table import DescriptorTable
from wasinn_host.wasi.trace import TraceSink, line_writer, traced
from wasinn_runtime.errors import MemoryAccessError, UsageError
from wasinn_runtime.spec.types import FuncType

__all__ = ["WasiContext"]


class WasiContext:
    """The WASI side of one guest. Use it for one instance, then ``close`` it.

    Args:
        config: what the guest is given.
        trace: takes a line for each call; a function or a ``logging.Logger``.
        resolver: how paths are walked; by default the kernel's way where there is one.

    Raises:
        UsageError: something in the configuration can not be opened or encoded.
    """

    def __init__(
        self,
        config: WasiConfig,
        *,
        trace: TraceSink | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.config = config
        self._write_line = None if trace is None else line_writer(trace)
        self._notes: list[str] = []
        self._table = DescriptorTable(max(config.max_open_files, 3 + len(config.preopens)))
        process = ProcessCalls(config.encoded_args(), config.encoded_env())
        try:
            self._open_streams(config)
            for preopen in config.preopens:
                self._table.add(_open_preopen(preopen))
        except BaseException:
            self._table.close_all()
            raise
        self._calls = (
            FdCalls(self._table),
            PathCalls(self._table, resolver or default_resolver()),
            process,
            PollCalls(self._table),
            SocketCalls(self._table),
        )

    def _open_streams(self, config: WasiConfig) -> None:
        streams: list[Descriptor | None] = [open_stdin(config.stdin)]
        try:
            streams.append(open_stdout(config.stdout, 1, "stdout"))
            streams.append(open_stdout(config.stderr, 2, "stderr"))
        finally:
            # Also after a failure: the table then closes what was opened.
            for stream in streams:
                if stream is None:
                    self._table.skip()
                else:
                    self._table.add(stream)

    def functions(self) -> Iterator[tuple[str, FuncType, WasiFunction]]:
        """Every function of ``wasi_snapshot_preview1``: name, type, ``(caller, *ints) -> errno``.

        Pointers and lengths are to be passed as unsigned integers. ``proc_exit`` raises
        ``GuestExit``; otherwise whatever the guest does wrong is an errno. An exception of a
        user's stream, and ``KeyboardInterrupt``, come through as they are.
        """
        for signature in SIGNATURES:
            call = self._find(signature.name)
            function = self._guarded(call) if signature.returns_errno else call
            if self._write_line is not None:
                function = traced(signature, function, self._write_line, self._notes)
            yield signature.name, signature.type, function

    def close(self) -> None:
        """Flush streams and close everything that was opened; harmless a second time.

        Raises:
            OSError: a stream could not be flushed, such as a file on a full disk.
        """
        self._table.close_all()

    def __enter__(self) -> WasiContext:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open_descriptors(self) -> int:
        """How many descriptors the guest has open."""
        return len(self._table)

    def _find(self, name: str) -> WasiFunction:
        for group in self._calls:
            found: WasiFunction | None = getattr(group, name, None)
            if found is not None:
                return found
        raise NotImplementedError(f"wasi_snapshot_preview1.{name} has no implementation")

    def _guarded(self, call: WasiFunction) -> WasiFunction:
        """The boundary where failures become numbers."""
        notes = self._notes if self._write_line is not None else None
        success = int(Errno.SUCCESS)

        def guarded(caller: Caller, *args: int) -> int:
            try:
                call(caller, *args)
            except WasiError as error:
                if notes is not None and error.reason:
                    notes.append(error.reason)
                return int(error.errno)
            except OSError as error:
                number, known = errno_from_os(error)
                if notes is not None and not known:
                    notes.append(f"unmapped error of the host: {error!r}")
                return int(number)
            except MemoryAccessError as error:
                if notes is not None:
                    notes.append(str(error))
                return int(Errno.FAULT)
            except StreamFailure as failure:
                raise failure.original from None
            return success

        return guarded


def _open_preopen(preopen: Preopen) -> Directory:
    name = preopen.guest_name
    try:
        guest_name = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(f"preopen {name!r}: not encodable as UTF-8") from error
    if not guest_name or b"\0" in guest_name:
        raise UsageError(f"preopen {name!r}: a guest path is not empty and has no NUL")
    host = os.fspath(preopen.host)
    try:
        fd = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"can not open directory {host!r} for the guest path {name!r}: {reason}"
        ) from error
    return Directory(
        fd,
        Rights.DIRECTORY,
        Rights.DIRECTORY | Rights.FILE,
        read_only=preopen.read_only,
        preopen_name=guest_name,
    )

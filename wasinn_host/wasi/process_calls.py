"""Arguments, environment, clocks, randomness, ending: the calls that touch no descriptor.

Also the calls that are not there: ``proc_raise`` and sockets. Preview 1 can not create a socket,
so ``sock_*`` finds one only when a standard stream was inherited as one.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from typing import Final, NoReturn

from wasinn_host.wasi.abi import ClockId, Errno
from wasinn_host.wasi.errors import WasiError
from wasinn_host.wasi.guest import Caller, check_range, memory_of
from wasinn_host.wasi.table import DescriptorTable
from wasinn_runtime.errors import GuestExit

__all__ = ["ProcessCalls", "SocketCalls"]

#: Random bytes made at once; between two portions an interrupt is looked for.
_RANDOM_CHUNK: Final = 1 << 20

_CLOCKS: Final[dict[int, tuple[int, Callable[[], int]]]] = {
    ClockId.REALTIME: (time.CLOCK_REALTIME, time.time_ns),
    ClockId.MONOTONIC: (time.CLOCK_MONOTONIC, time.monotonic_ns),
    ClockId.PROCESS_CPUTIME: (time.CLOCK_PROCESS_CPUTIME_ID, time.process_time_ns),
    ClockId.THREAD_CPUTIME: (time.CLOCK_THREAD_CPUTIME_ID, time.thread_time_ns),
}


class _StringBlock:
    """NUL-terminated strings and the table of pointers to them, ready to be written.

    Args:
        strings: without their NUL.
    """

    def __init__(self, strings: list[bytes]) -> None:
        self.count = len(strings)
        self.data = b"".join(string + b"\0" for string in strings)
        self._offsets = []
        position = 0
        for string in strings:
            self._offsets.append(position)
            position += len(string) + 1

    def sizes(self, caller: Caller, count_ptr: int, size_ptr: int) -> None:
        memory = memory_of(caller)
        check_range(memory, count_ptr, 4)
        check_range(memory, size_ptr, 4)
        memory.write_u32(count_ptr, self.count)
        memory.write_u32(size_ptr, len(self.data))

    def write(self, caller: Caller, table_ptr: int, data_ptr: int) -> None:
        memory = memory_of(caller)
        check_range(memory, table_ptr, 4 * self.count)
        check_range(memory, data_ptr, len(self.data))
        pointers = [data_ptr + offset for offset in self._offsets]
        memory.write(table_ptr, struct.pack(f"<{self.count}I", *pointers))
        memory.write(data_ptr, self.data)


class ProcessCalls:
    """Calls of the process.

    Args:
        args: command line, without NULs.
        env: ``NAME=value`` strings, without NULs.
    """

    def __init__(self, args: list[bytes], env: list[bytes]) -> None:
        self._args = _StringBlock(args)
        self._env = _StringBlock(env)

    def args_sizes_get(self, caller: Caller, argc: int, argv_buf_size: int) -> None:
        self._args.sizes(caller, argc, argv_buf_size)

    def args_get(self, caller: Caller, argv: int, argv_buf: int) -> None:
        self._args.write(caller, argv, argv_buf)

    def environ_sizes_get(self, caller: Caller, count: int, size: int) -> None:
        self._env.sizes(caller, count, size)

    def environ_get(self, caller: Caller, environ: int, environ_buf: int) -> None:
        self._env.write(caller, environ, environ_buf)

    def clock_res_get(self, caller: Caller, clock: int, resolution: int) -> None:
        host_clock, _ = _clock(clock)
        memory = memory_of(caller)
        check_range(memory, resolution, 8)
        # At least 1: a guest may divide by it.
        memory.write_u64(resolution, max(int(time.clock_getres(host_clock) * 1e9), 1))

    def clock_time_get(self, caller: Caller, clock: int, precision: int, out: int) -> None:
        _, now_ns = _clock(clock)
        memory_of(caller).write_u64(out, max(now_ns(), 0))

    def random_get(self, caller: Caller, buf: int, length: int) -> None:
        target = memory_of(caller).view(buf, length)
        for start in range(0, length, _RANDOM_CHUNK):
            if start and caller.interrupt.is_set():
                raise WasiError(Errno.INTR)
            count = min(_RANDOM_CHUNK, length - start)
            target[start : start + count] = os.urandom(count)

    def sched_yield(self, caller: Caller) -> None:
        os.sched_yield()

    def proc_exit(self, caller: Caller, status: int) -> NoReturn:
        raise GuestExit(status)

    def proc_raise(self, caller: Caller, signal: int) -> None:
        raise WasiError(Errno.NOSYS, "signals are not implemented")


class SocketCalls:
    """``sock_*``: the right refusal for what is no socket, NOSYS for what is."""

    def __init__(self, table: DescriptorTable) -> None:
        self._table = table

    def _refuse(self, fd: int) -> NoReturn:
        if self._table.get(fd).is_socket:
            raise WasiError(Errno.NOSYS, "sockets are not implemented")
        raise WasiError(Errno.NOTSOCK)

    def sock_accept(self, caller: Caller, fd: int, flags: int, accepted: int) -> None:
        self._refuse(fd)

    def sock_recv(
        self,
        caller: Caller,
        fd: int,
        data: int,
        data_len: int,
        flags: int,
        out_len: int,
        out_flags: int,
    ) -> None:
        self._refuse(fd)

    def sock_send(
        self, caller: Caller, fd: int, data: int, data_len: int, flags: int, out_len: int
    ) -> None:
        self._refuse(fd)

    def sock_shutdown(self, caller: Caller, fd: int, how: int) -> None:
        self._refuse(fd)


def _clock(clock: int) -> tuple[int, Callable[[], int]]:
    found = _CLOCKS.get(clock)
    if found is None:
        raise WasiError(Errno.INVAL, f"no clock {clock}")
    return found

"""Every WASI and WASI-NN function, called by a compiled guest with pointers that lead nowhere.

The answer is an error number, whatever the arguments: no trap, no exception, no hang.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.command_line import Wasinn
from wasinn_host.host import Guest, Host
from wasinn_host.nn import Target
from wasinn_host.wasi import Capture
from wasinn_runtime import Func, GuestExit, Module, ValType

CALLS = Path(__file__).with_name("guests") / "calls.wasm"
NN = {
    "load",
    "load_by_name",
    "init_execution_context",
    "set_input",
    "compute",
    "get_output",
}
LAST_WASI_ERRNO, LAST_NN_ERRNO = 76, 8
WIDE = (0, 1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1)


@pytest.fixture(scope="module")
def module(host: Host) -> Module:
    return host.load(CALLS)


NAMES = sorted(
    [
        "args_get",
        "args_sizes_get",
        "environ_get",
        "environ_sizes_get",
        "clock_res_get",
        "clock_time_get",
        "fd_advise",
        "fd_allocate",
        "fd_close",
        "fd_datasync",
        "fd_fdstat_get",
        "fd_fdstat_set_flags",
        "fd_fdstat_set_rights",
        "fd_filestat_get",
        "fd_filestat_set_size",
        "fd_filestat_set_times",
        "fd_pread",
        "fd_prestat_get",
        "fd_prestat_dir_name",
        "fd_pwrite",
        "fd_read",
        "fd_readdir",
        "fd_renumber",
        "fd_seek",
        "fd_sync",
        "fd_tell",
        "fd_write",
        "path_create_directory",
        "path_filestat_get",
        "path_filestat_set_times",
        "path_link",
        "path_open",
        "path_readlink",
        "path_remove_directory",
        "path_rename",
        "path_symlink",
        "path_unlink_file",
        "poll_oneoff",
        "proc_raise",
        "random_get",
        "sched_yield",
        "sock_accept",
        "sock_recv",
        "sock_send",
        "sock_shutdown",
    ]
) + sorted(NN)


def test_the_guest_has_all_functions(module: Module) -> None:
    assert sorted(name for name, _ in module.exports) == sorted([*NAMES, "memory", "proc_exit"])
    assert len(module.imports) == 46 + 6
    # One that links with an engine that was told of these types is one whose types are right.


@pytest.fixture
def guest(host: Host, module: Module, tmp_path: Path) -> Iterator[Guest]:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "f").write_bytes(b"content")
    (tmp_path / "canary").write_bytes(b"canary")
    if "echo" not in host.graphs.names():
        host.graphs.register("echo", "null", Target.CPU, builders=[b""])
    with host.open(
        module,
        dirs={"/": tmp_path / "inside"},
        args=["one"],
        env={"A": "b"},
        stdin=b"input",
        stdout=Capture(1 << 20),
        stderr=Capture(1 << 20),
        max_memory_bytes=1 << 20,
    ) as opened:
        yield opened
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert [link for link in links if link.startswith(str(tmp_path))] == []
    assert (tmp_path / "canary").read_bytes() == b"canary"
    assert sorted(os.listdir(tmp_path)) == ["canary", "inside"]


def _prepare(guest: Guest) -> None:
    """Memory as every call finds it: zeros, with a name where a plain pointer points."""
    memory = guest.memory
    memory.write(0, bytes(4096))
    memory.write(64, b"f/f")
    memory.write(128, b"g/g")
    memory.write(memory.byte_length - 4096, bytes(4096))


def _handle(guest: Guest, name: str) -> int:
    """What a function's first argument should be: the directory, or a graph or context."""
    if name not in NN or name.startswith("load"):
        return 3
    guest.memory.write(0, b"echo")
    assert guest.call("load_by_name", 0, 4, 8) == 0
    graph = guest.memory.read_u32(8)
    if name == "init_execution_context":
        return graph
    assert guest.call("init_execution_context", graph, 8) == 0
    context = guest.memory.read_u32(8)
    if name in ("compute", "get_output"):
        guest.memory.write(
            16, struct.pack("<IIIII", 40, 1, 1, 44, 4) + struct.pack("<IIf", 0, 1, 2)
        )
        assert guest.call("set_input", context, 0, 16) == 0
        assert guest.call("compute", context) == 0
    return context


def _vectors(guest: Guest, function: Func, first: int) -> Iterator[list[int]]:
    """Arguments: a plain set, with each one and each two of them replaced by extreme values."""
    size = guest.memory.byte_length
    narrow = (0, 3, 13, size - 4, size - 1, size, size + 1, 1 << 31, (1 << 32) - 4, (1 << 32) - 1)
    params = function.type.params
    values = [WIDE if ty is ValType.I64 else narrow for ty in params]
    for plain in (1, 64):
        base = [first, *[plain] * (len(params) - 1)][: len(params)]
        yield base
        for places in itertools.chain(
            itertools.combinations(range(len(params)), 1),
            itertools.combinations(range(len(params)), 2),
        ):
            for chosen in itertools.product(*(values[place] for place in places)):
                vector = list(base)
                for place, value in zip(places, chosen, strict=True):
                    vector[place] = value
                yield vector
    for which in range(len(narrow)):
        yield [v[which % len(v)] for v in values]


def _signed(function: Func, vector: Sequence[int]) -> list[int]:
    bits = [64 if ty is ValType.I64 else 32 for ty in function.type.params]
    return [v - (1 << b) if v >> (b - 1) else v for v, b in zip(vector, bits, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_no_arguments_make_a_call_trap(guest: Guest, name: str) -> None:
    function = guest.exports[name]
    assert isinstance(function, Func)
    last = LAST_NN_ERRNO if name in NN else LAST_WASI_ERRNO
    answers = set()
    with guest.store.deadline(60):
        for vector in _vectors(guest, function, _handle(guest, name)):
            _prepare(guest)
            errno = function(*_signed(function, vector))
            assert isinstance(errno, int)
            assert 0 <= errno <= last, (vector, errno)
            answers.add(errno)
    # Not all was refused or taken because of something else.
    assert name in ("sched_yield", "proc_raise") or len(answers) >= 2, answers


#: Where a pointer to memory that a function reads or fills stands among its arguments.
POINTERS = {
    "args_get": (0, 1),
    "args_sizes_get": (0, 1),
    "environ_get": (0, 1),
    "environ_sizes_get": (0, 1),
    "clock_res_get": (1,),
    "clock_time_get": (2,),
    "fd_fdstat_get": (1,),
    "fd_filestat_get": (1,),
    "fd_prestat_get": (1,),
    "fd_prestat_dir_name": (1,),
    "fd_readdir": (1, 4),
    "path_create_directory": (1,),
    "path_filestat_get": (2, 4),
    "path_filestat_set_times": (2,),
    "path_link": (2, 5),
    "path_open": (2, 8),
    "path_readlink": (1, 3, 5),
    "path_remove_directory": (1,),
    "path_rename": (1, 4),
    "path_symlink": (0, 3),
    "path_unlink_file": (1,),
    "poll_oneoff": (0, 1, 3),
    "random_get": (0,),
    "load": (0, 4),
    "load_by_name": (0, 2),
    "set_input": (2,),
    "get_output": (2, 4),
}
#: Arguments that are in order, where they are not the directory and 64 for everything else.
PLAIN = {
    "clock_res_get": [0, 64],
    "clock_time_get": [0, 0, 64],
    "fd_prestat_dir_name": [3, 64, 1],
    "path_link": [3, 0, 64, 2, 3, 128, 2],
    "path_rename": [3, 64, 2, 3, 128, 2],
    "path_symlink": [64, 2, 3, 128, 2],
    "poll_oneoff": [1024, 2048, 2, 64],
    "load": [128, 1, 1, 0, 64],
    "load_by_name": [64, 64, 64],
}
FAULT, BAD_ARGUMENT = 21, 1


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, places in POINTERS.items() for place in places]
)
@pytest.mark.parametrize("where", ["beyond", "last", "top"])
def test_a_bad_pointer_is_told_as_such(guest: Guest, name: str, place: int, where: str) -> None:
    """With everything else in order the number is the one for bad pointers, nothing else."""
    size = guest.memory.byte_length
    function = guest.exports[name]
    assert isinstance(function, Func)
    # 3 is the directory, and plain pointers and lengths all lie within memory.
    first = _handle(guest, name)
    _prepare(guest)
    vector = [first, *[64] * (len(function.type.params) - 1)][: len(function.type.params)]
    for at, ty in enumerate(function.type.params):
        if ty is ValType.I64:
            vector[at] = 0
    vector = PLAIN.get(name, vector)[:]
    if name == "fd_prestat_dir_name" and where == "last":
        pytest.skip("the name has one byte, and that fits")
    vector[place] = {"beyond": size, "last": size - 1, "top": (1 << 32) - 1}[where]
    expected = BAD_ARGUMENT if name in NN else FAULT
    before = guest.memory.read(0, 4096)
    assert function(*_signed(function, vector)) == expected, vector
    assert guest.memory.read(0, 4096) == before, "something was written all the same"


@pytest.mark.parametrize("status", [0, 1, 255, 256, (1 << 31) - 1, -1])
def test_exit_ends_only_the_guest(guest: Guest, status: int) -> None:
    with pytest.raises(GuestExit) as caught:
        guest.call("proc_exit", status)
    assert caught.value.code == status & 0xFFFF_FFFF


@pytest.mark.slow
def test_through_the_command(wasinn: Wasinn, tmp_path: Path) -> None:
    """The same guest as a process: the largest number in every place of every function."""
    for name, arity in {"fd_write": 4, "path_open": 9, "poll_oneoff": 4, "random_get": 2}.items():
        ran = wasinn(
            *("run", "--timeout", "30", "--dir", f"{tmp_path}::/", "--invoke", name, CALLS),
            *["0xffffffff"] * arity,
        )
        assert (ran.status, ran.err) == (0, ""), name
        assert 0 < int(ran.out) <= LAST_WASI_ERRNO
    for name, arity in {"load": 5, "set_input": 3, "get_output": 5, "load_by_name": 3}.items():
        ran = wasinn("run", "--timeout", "30", "--invoke", name, CALLS, *["0xffffffff"] * arity)
        assert (ran.status, ran.out, ran.err) == (0, "1\n", ""), name

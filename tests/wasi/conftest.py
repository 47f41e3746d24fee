"""Fixtures of the WASI tests: a preopened directory with a canary beside it, both resolvers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wasi.fake_guest import Guest
from wasinn_host.wasi import Preopen, Stdio, WasiConfig
from wasinn_host.wasi.kernel import has_openat2
from wasinn_host.wasi.paths import KernelResolver, Resolver, WalkResolver

CANARY = b"canary: nobody may read or change this"


@pytest.fixture(params=["openat2", "walk"])
def resolver(request: pytest.FixtureRequest) -> Resolver:
    """Both ways to walk a path; every test of paths runs on each."""
    if request.param == "walk":
        return WalkResolver()
    if not has_openat2():
        pytest.skip("this kernel has no openat2")
    return KernelResolver()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A directory to preopen; afterwards what lies beside it must be as it was."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(CANARY)
    (outside / "sub").mkdir()
    os.utime(outside / "canary", ns=(10**18, 10**18))
    inside = tmp_path / "inside"
    inside.mkdir()
    yield inside
    assert (outside / "canary").read_bytes() == CANARY
    status = (outside / "canary").stat()
    assert (status.st_mtime_ns, status.st_nlink) == (10**18, 1)
    assert sorted(os.listdir(outside)) == ["canary", "sub"]
    assert os.listdir(outside / "sub") == []
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]


MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest(resolver: Resolver) -> Iterator[MakeGuest]:
    """Makes guests from ``(host path, read_only)`` pairs or paths; no host descriptor may leak."""
    guests: list[Guest] = []
    # Descriptors that garbage of earlier tests still holds must not go while this one counts.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    def make(*directories: Path | tuple[Path, bool], max_open_files: int = 1024) -> Guest:
        preopens = []
        for number, directory in enumerate(directories):
            path, read_only = directory if isinstance(directory, tuple) else (directory, False)
            preopens.append(Preopen(path, f"/{number}", read_only))
        config = WasiConfig(
            preopens=preopens,
            stdin=Stdio.NULL,
            stdout=Stdio.NULL,
            stderr=Stdio.NULL,
            max_open_files=max_open_files,
        )
        guest = Guest(config, resolver=resolver)
        guests.append(guest)
        return guest

    yield make
    for guest in guests:
        guest.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def guest(make_guest: MakeGuest, root: Path) -> Guest:
    """A guest with ``root`` preopened for reading and writing as descriptor 3."""
    return make_guest(root)

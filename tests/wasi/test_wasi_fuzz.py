"""Random words into every function: always an errno, never an exception but ``GuestExit``."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wasi.fake_guest import PAGE, Guest
from wasinn_host.wasi import Capture, Preopen, WasiConfig
from wasinn_host.wasi.abi import Errno
from wasinn_host.wasi.kernel import has_openat2
from wasinn_host.wasi.paths import KernelResolver, WalkResolver
from wasinn_host.wasi.signatures import SIGNATURES, Kind, Signature
from wasinn_runtime.errors import GuestExit
from wasinn_runtime.spec.types import ValType

_NAMES = b"f d d/g l .. ../outside a/b x \0 \xff . / d/ l/".split()

_SMALL = st.integers(0, 12)
_I32 = st.one_of(
    _SMALL,
    st.sampled_from([2**31, 2**32 - 1, 2 * PAGE, 2 * PAGE - 4, 2 * PAGE - 64, 2**29, 1024]),
    st.integers(0, 2 * PAGE),
    st.integers(0, 2**32 - 1),
)
_I64 = st.one_of(
    _SMALL,
    st.sampled_from([2**63, 2**63 - 1, 2**64 - 1, 2**30 - 1, 2**62]),
    st.integers(0, 2**64 - 1),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("fuzz")
    (base / "outside").mkdir()
    (base / "outside" / "canary").write_bytes(b"canary")
    yield base
    assert sorted(os.listdir(base)) == ["inside", "outside"]
    assert os.listdir(base / "outside") == ["canary"]
    assert (base / "outside" / "canary").read_bytes() == b"canary"


def _words(signature: Signature, draw: st.DrawFn) -> list[int]:
    words = []
    for _, kind in signature.params:
        if kind is Kind.FD:
            words.append(draw(st.one_of(st.integers(0, 6), _I32)))
        elif kind is Kind.PATH:
            # Often one of the names that lie at the start of memory.
            words += draw(
                st.one_of(
                    st.sampled_from([(i * 16, len(name)) for i, name in enumerate(_NAMES)]),
                    st.tuples(_I32, _I32),
                )
            )
        elif kind is Kind.IOVS:
            words += draw(
                st.one_of(st.tuples(st.just(1024), st.integers(0, 4)), st.tuples(_I32, _I32))
            )
        else:
            words += [draw(_I32 if t is ValType.I32 else _I64) for t in kind.types]
    return words


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[int]]:
    # A guest may sleep as long as it likes, so the sleeping call is left to other tests.
    signature = draw(st.sampled_from([row for row in SIGNATURES if row.name != "poll_oneoff"]))
    return signature.name, _words(signature, draw)


def _guest(base: Path, walk: bool) -> Guest:
    inside = base / "inside"
    (inside / "d").mkdir(parents=True, exist_ok=True)
    for name in ("f", "d/g"):
        if not os.path.lexists(inside / name):
            (inside / name).write_bytes(b"content")
    if not os.path.lexists(inside / "l"):
        os.symlink("../outside", inside / "l")
    config = WasiConfig(
        args=["a"],
        env={"B": "c"},
        preopens=[Preopen(inside, "/")],
        stdin=b"input",
        stdout=Capture(1 << 20),
        stderr=Capture(1 << 20),
        max_open_files=50,
    )
    resolver = WalkResolver() if walk or not has_openat2() else KernelResolver()
    guest = Guest(config, resolver=resolver)
    for number, path in enumerate(_NAMES):
        guest.memory.write(number * 16, path)
    guest.memory.write(1024, struct.pack("<8I", 2048, 100, 0, 16, 2 * PAGE - 1, 1, 4096, 50_000))
    return guest


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sequence=st.lists(calls(), min_size=1, max_size=30), walk=st.booleans())
def test_random_calls_always_answer(
    tree: Path, sequence: list[tuple[str, list[int]]], walk: bool
) -> None:
    with _guest(tree, walk) as guest:
        for name, words in sequence:
            try:
                result = guest.functions[name](guest.caller, *words)
            except GuestExit:
                assert name == "proc_exit"
            else:
                assert cast(int, result) in Errno.__members__.values()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(min_size=48, max_size=480), words=st.tuples(_I32, _I32, _I32, _I32))
def test_random_subscriptions_always_answer(
    tree: Path, data: bytes, words: tuple[int, int, int, int]
) -> None:
    with _guest(tree, False) as guest:
        # A stopped guest does not sleep, and everything else is as ever.
        guest.caller.interrupt.set()
        guest.memory.write(8192, data)
        for arguments in (words, (8192, 8192, len(data) // 48, 0), (8192, 0, words[2], words[3])):
            assert (
                Errno(cast(int, guest.functions["poll_oneoff"](guest.caller, *arguments))) in Errno
            )


@settings(max_examples=300, deadline=None)
@given(
    path=st.one_of(st.binary(max_size=60), st.text("./\\ab\0é", max_size=40)), follow=st.booleans()
)
def test_random_names_mean_the_same_both_ways(tree: Path, path: bytes | str, follow: bool) -> None:
    if not has_openat2():
        pytest.skip("this kernel has no openat2")
    answers = []
    for walk in (False, True):
        with _guest(tree, walk) as guest:
            errno, status = guest.stat(path, follow=follow)
            answers.append((errno, status.ino, guest.open(path, follow=follow)[0]))
    assert answers[0] == answers[1]

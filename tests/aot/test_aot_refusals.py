"""No file is run that is not whole, not for this machine, or not of this version: each reason."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from pathlib import Path

import pytest

from tests.aot.aot_images import GUEST, altered, facts_of, image_of, module_of
from wasinn_runtime import Engine, Instance, Module, Store
from wasinn_runtime.engines import place, targets
from wasinn_runtime.engines.aot import load_image
from wasinn_runtime.engines.aot_format import FORMAT_VERSION, HEAD_BYTES, MAGIC
from wasinn_runtime.errors import UnusableImage, UsageError


@pytest.fixture(scope="module")
def image() -> bytes:
    return image_of()


def reason(image: bytes, **options: bytes) -> str:
    """Why a file is refused; it must be."""
    with pytest.raises(UnusableImage) as caught:
        load_image(image, name="app.aot", **options)
    assert str(caught.value) == f"app.aot: {caught.value.reason}"
    return caught.value.reason


def test_the_image_itself_loads(image: bytes) -> None:
    assert load_image(image).facts.opt_level == 1
    assert load_image(altered(image)).facts == facts_of(image)


# --- damage ---------------------------------------------------------------------------------------


def test_every_truncation_is_refused(image: bytes) -> None:
    some = random.Random(1).sample(range(HEAD_BYTES, len(image)), 200)
    for length in [*range(1, HEAD_BYTES + 1), *some, len(image) - 1]:
        assert reason(image[:length]).startswith("truncated"), length
    assert reason(b"") == "not an AOT file; make one with `wasinn compile`"


def test_a_truncated_file_is_refused_too(image: bytes, tmp_path: Path) -> None:
    path = tmp_path / "app.aot"
    for length in (0, 5, HEAD_BYTES - 1, HEAD_BYTES, 4096, len(image) - 1):
        path.write_bytes(image[:length])
        with pytest.raises(UnusableImage, match=r"truncated|not an AOT file"):
            load_image(path)


def test_what_follows_the_end_is_refused(image: bytes) -> None:
    assert reason(image + b"x") == "damaged: 1 bytes were added at its end"


def test_flipped_bits_are_refused_everywhere(image: bytes) -> None:
    places = random.Random(2).sample(range(HEAD_BYTES, len(image)), 400)
    for at in [*range(HEAD_BYTES), *places, *range(len(image) - 32, len(image))]:
        for bit in (0, 3, 7):
            broken = bytearray(image)
            broken[at] ^= 1 << bit
            said = reason(bytes(broken))
            if at < len(MAGIC):
                assert said.startswith("not an AOT file"), (at, said)
            elif at < 20:
                assert said.startswith("AOT format "), (at, said)
            elif 24 <= at < 32:
                assert said.startswith(("truncated", "damaged")), (at, said)
            else:
                assert said.startswith("damaged: its content"), (at, said)


def test_other_files_are_refused() -> None:
    for data in (module_of(GUEST), b"\x7fELF" + bytes(100), b"#!/bin/sh\n", bytes(1000)):
        assert reason(data) == "not an AOT file; make one with `wasinn compile`"


def test_a_header_that_makes_no_sense_is_refused(image: bytes) -> None:
    """With a right digest: somebody wrote it so."""
    _, _, size, _ = struct.unpack_from("<16sIIQ", image)
    header = image[HEAD_BYTES : HEAD_BYTES + size]
    for wrong in (
        b"[]".ljust(size),
        b"{".ljust(size),
        header.replace(b'"abi":', b'"abj":'),
        header.replace(b'"sections":', b'"sectionz":'),
        header.replace(b'"code":[', b'"code":[9'),
    ):
        assert len(wrong.rstrip()) <= size + 1
        content = image[:HEAD_BYTES] + wrong[:size] + image[HEAD_BYTES + size : -32]
        made = content + hashlib.sha256(content).digest()
        assert "made by a faulty program" in reason(made)


def test_directories_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        load_image(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "nowhere.aot")
    with pytest.raises(UnusableImage, match="not a regular file"):
        load_image(os.devnull)


# --- made for something else ----------------------------------------------------------------------


def test_another_format_is_refused(image: bytes) -> None:
    other = bytearray(image)
    struct.pack_into("<I", other, 16, FORMAT_VERSION + 1)
    assert reason(bytes(other)) == (
        f"AOT format {FORMAT_VERSION + 1}; this wasinn reads format {FORMAT_VERSION}: "
        "compile the module again"
    )


def test_another_abi_is_refused(image: bytes) -> None:
    said = reason(altered(image, abi=facts_of(image).abi + 1))
    assert said.startswith(f"compiled for version {facts_of(image).abi + 1} of the runtime's ABI")


def test_another_wasinn_is_refused(image: bytes) -> None:
    said = reason(altered(image, wasinn="0.0.9", build="0123456789abcdef" * 4))
    assert said.startswith("compiled by another wasinn (version 0.0.9, build 0123456789ab)")


def test_another_llvm_is_refused(image: bytes) -> None:
    said = reason(altered(image, llvm="15.0.7", llvmlite="0.43.0"))
    assert said.startswith("compiled by LLVM 15.0.7; this process has LLVM ")
    # The same LLVM out of another package is as good.
    assert load_image(altered(image, llvmlite="0.50.1+other")).facts.llvm == facts_of(image).llvm


def test_another_cpu_is_refused(image: bytes) -> None:
    said = reason(altered(image, cpu="future", cpu_features=["sse2", "unheard-of"]))
    assert said.startswith("compiled for the CPU future; this one lacks unheard-of: compile")


def test_each_feature_is_looked_for_by_itself(
    image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same machine, were it an older one."""
    monkeypatch.setattr(targets, "_kernel_words", lambda: frozenset({"sse", "sse2", "fp", "avx"}))
    host = targets.host_architecture()
    assert host is not None
    wanted = ["avx", "avx2", "sse2"] if host.name == "x86_64" else ["fp-armv8", "lse"]
    said = reason(altered(image, cpu="newer", cpu_features=wanted))
    assert f"lacks {'avx2' if host.name == 'x86_64' else 'lse'}:" in said


def test_another_architecture_is_refused() -> None:
    here = os.uname().machine
    other = "aarch64" if here == "x86_64" else "x86_64"
    said = reason(image_of(target=f"{other}-linux-gnu"))
    assert said.startswith(f"compiled for {other}-unknown-linux-gnu; this machine is {here}")
    assert said.endswith(f"with --target {here}")


def test_another_source_is_refused(image: bytes) -> None:
    source = module_of(GUEST)
    assert load_image(image, source=source).facts.source_bytes == len(source)
    said = reason(image, source=module_of("(module)"))
    assert said.startswith(f"compiled from another module: from sample.wasm, {len(source)} bytes")
    digest = hashlib.sha256(source).hexdigest()
    assert digest[:16] in said


# --- never by accident ----------------------------------------------------------------------------


def test_native_code_is_never_taken_for_a_module(image: bytes, tmp_path: Path) -> None:
    engine = Engine()
    path = tmp_path / "app.wasm"
    path.write_bytes(image)
    with pytest.raises(UsageError, match="is an AOT file, not a module"):
        Module(engine, image)
    with pytest.raises(UsageError, match=r"Module\.from_aot"):
        Module.from_file(engine, path)


def test_nothing_stays_mapped_when_it_is_refused(
    image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = []
    release = place.Mapped.release

    def watch(mapped: place.Mapped) -> None:
        bases.append(mapped.base)
        release(mapped)

    monkeypatch.setattr(place.Mapped, "release", watch)
    reason(altered(image, abi=99))
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert len(bases) == 1
    assert not any(line.startswith(f"{bases[0]:x}-") for line in maps)


def test_a_file_that_changes_after_it_was_loaded_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.aot"
    path.write_bytes(image_of('(module (func (export "f") (result i32) i32.const 42))'))
    engine = Engine()
    module = Module.from_aot(engine, path)
    with open(path, "r+b") as file:
        file.write(bytes(os.path.getsize(path)))
        file.truncate(10)
    assert Instance(Store(engine), module).exports.f() == 42

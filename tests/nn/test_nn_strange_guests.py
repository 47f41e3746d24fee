"""Guests as other hosts' tools leave them: with sections of their own, native code, odd imports.

Custom sections mean nothing here: the WebAssembly in the file is what runs, whatever else it holds.
What a guest imports and nobody gives is named, together with what would provide it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

from tests.binary.wasm_bytes import custom, section, sections_of
from tests.nn.languages import GUESTS, LanguageGuest
from tests.nn.test_nn_languages import check
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.host import Host
from wasinn_runtime import Config, FuncType, LinkError, Malformed
from wasinn_runtime.engines.modes import MODES

WITX = [guest for guest in GUESTS if guest.abi == "witx"]

# exit(77) for x86-64, in a minimal ELF file's dress. It would end the test if anybody ran it.
MACHINE_CODE = bytes.fromhex("b83c000000bf4d0000000f05")
ELF = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQ", 3, 62, 1, 0x78) + bytes(92) + MACHINE_CODE

EXTRA = {
    # WasmEdge's compiler keeps the module as it is and adds its code under this name.
    "native code of WasmEdge": custom("wasmedge", b"\5\0\0\0\3\1" + ELF),
    "native code twice": custom("wasmedge", ELF) + custom("wasmedge", MACHINE_CODE),
    "ours, made elsewhere": custom("wasinn.aot", ELF) + custom("wasinn", ELF),
    "machine code under other names": custom(".text", ELF) + custom("wamr.aot", b"\0aot" + ELF),
    "large": custom("padding", bytes(1 << 20)),
    "many": b"".join(custom(f"section {n}", bytes(n % 7)) for n in range(3000)),
    "no name": custom("", b"anything"),
    "names that mean something, with nonsense": b"".join(
        custom(name, b"\xff" * 50)
        for name in (
            *("name", "producers", "target_features", "linking", "reloc.CODE", "dylink.0"),
            *(".debug_info", ".debug_line", ".debug_abbrev", ".debug_str", "sourceMappingURL"),
            *("metadata.code.branch_hint", "component-type", "external_debug_info"),
        )
    ),
}


def _dressed(module: bytes, extra: bytes) -> bytes:
    """The module with the sections before each of its own, and after the last."""
    parts = sections_of(module)
    return (
        module[:8] + b"".join(extra + section(number, content) for number, content in parts) + extra
    )


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(backend_options={"onnx": {"threads": "1"}}) as made:
        made.backends.add("onnx", OnnxBackend)
        yield made


@pytest.mark.parametrize("made", WITX, ids=lambda g: g.language)
@pytest.mark.parametrize("kind", EXTRA)
def test_custom_sections_change_nothing(host: Host, made: LanguageGuest, kind: str) -> None:
    with host.open(_dressed(made.prebuilt.read_bytes(), EXTRA[kind])) as guest:
        check(guest, made.abi)


@pytest.mark.parametrize("mode", MODES)
def test_native_code_is_not_run_in_any_mode(mode: str) -> None:
    module = _dressed(WITX[0].prebuilt.read_bytes(), EXTRA["native code of WasmEdge"])
    with Host(Config(mode=mode), backend_options={"onnx": {"threads": "1"}}) as host:
        host.backends.add("onnx", OnnxBackend)
        with host.open(module) as guest:
            check(guest, "witx")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (ELF, "native code (ELF)"),
        (b"\0aot\3\0\0\0" + ELF, "native code of WAMR's compiler"),
        (b"MZ" + bytes(200), "native code (a Windows program)"),
        (b"\xcf\xfa\xed\xfe" + bytes(200), "native code (Mach-O)"),
        (b"\xca\xfe\xba\xbe" + bytes(200), "native code (Mach-O for several processors)"),
        (b"\0asm\x0d\0\1\0" + bytes(20), "a component, not a core module"),
    ],
)
def test_files_that_are_no_module(host: Host, tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(content)
    with pytest.raises(Malformed) as caught:
        host.open(path)
    assert f"this is {what}" in str(caught.value)


ADVICE = {
    ("wasi_nn_ephemeral", "load"): "did you mean wasi_ephemeral_nn?",
    ("wasi_ephemeral", "load"): "did you mean wasi_ephemeral_nn?",
    ("wasi-nn", "load"): "did you mean wasi_nn?",
    ("wasi_snapshot_preview", "fd_write"): "did you mean wasi_snapshot_preview1?",
    ("wasi_unstable", "fd_write"): "before wasi_snapshot_preview1",
    ("wasi_snapshot_preview2", "fd_write"): "build the guest for wasm32-wasip1",
    ("wasi_ephemeral_crypto", "open"): "of those this host has wasi_ephemeral_nn alone",
    ("wasi:nn/graph@0.2.0-rc-2024-10-28", "load"): "imports it from wasi_ephemeral_nn or wasi_nn",
    ("wasi:cli/stdout@0.2.0", "get-stdout"): "imports it from wasi_snapshot_preview1",
    ("wasi", "thread-spawn"): "build the guest without threads",
    ("wasmedge_process", "run"): "a plugin of WasmEdge",
    ("wbg", "__wbindgen_throw"): "JavaScript half of wasm-bindgen",
    ("gojs", "runtime.wasmExit"): "GOOS=wasip1",
    ("env", "abort"): "AssemblyScript's; build the guest with --use abort=",
    ("env", "memory"): "without --import-memory",
    ("env", "emscripten_memcpy_js"): "-sSTANDALONE_WASM",
    ("env", "score"): "a Python program gives it with Host.define",
    ("my_host", "score"): "this host has wasi_snapshot_preview1, wasi_ephemeral_nn, wasi_nn",
}


@pytest.mark.parametrize(("module", "name"), ADVICE, ids=lambda part: str(part))
def test_an_unknown_module_is_named_with_what_would_provide_it(
    host: Host, module: str, name: str
) -> None:
    wat = f'(module (import "{module}" "{name}" (func)))'
    with pytest.raises(LinkError) as caught:
        host.open(bytes(wasmtime.wat2wasm(wat)))
    line = str(caught.value).splitlines()[1]
    assert line.startswith(f"  '{module}' '{name}' (")
    assert ADVICE[module, name] in line


def test_a_typing_error_in_a_known_module(host: Host) -> None:
    imports = "".join(
        f'(import "{module}" "{name}" (func (param i32) (result i32)))'
        for module, name in (
            ("wasi_ephemeral_nn", "compute"),
            ("wasi_ephemeral_nn", "comptue"),
            ("wasi_nn", "unload"),
            ("wasi_snapshot_preview1", "fd_wirte"),
        )
    )
    with pytest.raises(LinkError) as caught:
        host.open(bytes(wasmtime.wat2wasm(f"(module {imports})")))
    assert str(caught.value).splitlines() == [
        "unknown import: <module> needs 3 definitions that nobody gives:",
        "  'wasi_ephemeral_nn' 'comptue' (did you mean compute?)",
        "  'wasi_nn' 'unload' (did you mean load?)",
        "  'wasi_snapshot_preview1' 'fd_wirte' (did you mean fd_write, fd_pwrite, fd_tell?)",
    ]


def test_what_the_host_program_defines_is_given(host: Host) -> None:
    """The advice is about modules that nobody defines; one that is there lists its names."""
    wat = '(module (import "env" "scroe" (func)))'
    with Host() as other:
        other.define(
            lambda linker: linker.define_func("env", "score", FuncType((), ()), lambda: None)
        )
        with pytest.raises(LinkError, match=r"'env' 'scroe' \(did you mean score\?\)"):
            other.open(bytes(wasmtime.wat2wasm(wat)))

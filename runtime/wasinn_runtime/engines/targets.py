"""What code can be compiled for: systems, CPUs, and the features that code for a CPU may use.

Knows nothing of LLVM but its words. Whether this machine can run something is answered from what
the kernel says of the CPU, since LLVM takes longer to load than a small guest takes to run.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from wasinn_runtime.engines.elf import EM_AARCH64, EM_X86_64
from wasinn_runtime.errors import UsageError

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "architecture_of",
    "cpu_features",
    "host_architecture",
    "missing_features",
    "used_features",
]


@dataclass(frozen=True)
class Architecture:
    """A kind of CPU with Linux on it.

    Attributes:
        name: as in triples.
        triple: what LLVM is told.
        machine: its ELF number.
        features: each feature that LLVM may use by itself, and the kernel's words for it.
        cpus: the CPUs that can be named, with the features that code for them may use.
    """

    name: str
    triple: str
    machine: int
    features: Mapping[str, tuple[str, ...]]
    cpus: Mapping[str, tuple[str, ...]]


_V1 = ("cmov", "cx8", "fxsr", "mmx", "sse", "sse2")
_V2 = (*_V1, "cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3", "crc32")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_ARM = ("fp-armv8", "neon")
_ARM_82 = (*_ARM, "aes", "crc", "dotprod", "fullfp16", "lse", "rcpc", "rdm", "sha2")

ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture(
            name="x86_64",
            triple="x86_64-unknown-linux-gnu",
            machine=EM_X86_64,
            features={
                "cmov": ("cmov",),
                "cx8": ("cx8",),
                "fxsr": ("fxsr",),
                "mmx": ("mmx",),
                "sse": ("sse",),
                "sse2": ("sse2",),
                "cx16": ("cx16",),
                "popcnt": ("popcnt",),
                "sahf": ("lahf_lm",),
                "sse3": ("pni",),
                "ssse3": ("ssse3",),
                "sse4.1": ("sse4_1",),
                "sse4.2": ("sse4_2",),
                "crc32": ("sse4_2",),
                "sse4a": ("sse4a",),
                "avx": ("avx",),
                "avx2": ("avx2",),
                "bmi": ("bmi1",),
                "bmi2": ("bmi2",),
                "f16c": ("f16c",),
                "fma": ("fma",),
                "fma4": ("fma4",),
                "xop": ("xop",),
                "tbm": ("tbm",),
                "lzcnt": ("abm",),
                "movbe": ("movbe",),
                "adx": ("adx",),
                "aes": ("aes",),
                "pclmul": ("pclmulqdq",),
                "vaes": ("vaes",),
                "vpclmulqdq": ("vpclmulqdq",),
                "sha": ("sha_ni",),
                "gfni": ("gfni",),
                "movdiri": ("movdiri",),
                "prfchw": ("3dnowprefetch",),
                "rdpid": ("rdpid",),
                "avxvnni": ("avx_vnni",),
                "avxifma": ("avx_ifma",),
                "avxvnniint8": ("avx_vnni_int8",),
                "avxvnniint16": ("avx_vnni_int16",),
                "avxneconvert": ("avx_ne_convert",),
                "avx512f": ("avx512f",),
                "avx512bw": ("avx512bw",),
                "avx512cd": ("avx512cd",),
                "avx512dq": ("avx512dq",),
                "avx512vl": ("avx512vl",),
                "avx512ifma": ("avx512ifma",),
                "avx512vbmi": ("avx512vbmi",),
                "avx512vbmi2": ("avx512_vbmi2",),
                "avx512vnni": ("avx512_vnni",),
                "avx512bitalg": ("avx512_bitalg",),
                "avx512vpopcntdq": ("avx512_vpopcntdq",),
                "avx512bf16": ("avx512_bf16",),
                "avx512fp16": ("avx512_fp16",),
                "avx512vp2intersect": ("avx512_vp2intersect",),
            },
            cpus={"x86-64": _V1, "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4},
        ),
        Architecture(
            name="aarch64",
            triple="aarch64-unknown-linux-gnu",
            machine=EM_AARCH64,
            features={
                "fp-armv8": ("fp",),
                "neon": ("asimd",),
                "aes": ("aes", "pmull"),
                "crc": ("crc32",),
                "dotprod": ("asimddp",),
                "fullfp16": ("fphp", "asimdhp"),
                "lse": ("atomics",),
                "rcpc": ("lrcpc",),
                "rdm": ("asimdrdm",),
                "sha2": ("sha1", "sha2"),
                "jsconv": ("jscvt",),
                "complxnum": ("fcma",),
                "i8mm": ("i8mm",),
                "bf16": ("bf16",),
                "fptoint": ("frint",),
                "altnzcv": ("flagm2",),
                "flagm": ("flagm",),
                "sha3": ("sha3", "sha512"),
                "fp16fml": ("asimdfhm",),
            },
            cpus={"generic": _ARM, "cortex-a72": (*_ARM, "crc"), "neoverse-n1": _ARM_82},
        ),
    )
}


def architecture_of(triple: str) -> Architecture:
    """The architecture that a target triple names, such as ``aarch64-linux-gnu``.

    Raises:
        UsageError: nothing can be compiled for it.
    """
    cpu, *rest = triple.lower().split("-")
    cpu = {"amd64": "x86_64", "arm64": "aarch64"}.get(cpu, cpu)
    known = ARCHITECTURES.get(cpu)
    # Code calls no system; what is fixed is Linux on a CPU, by the way threads find their limits.
    if known is None or (rest and "linux" not in rest):
        names = " and ".join(a.triple for a in ARCHITECTURES.values())
        raise UsageError(f"no code can be compiled for {triple!r}; expected {names}")
    return known


def host_architecture() -> Architecture | None:
    """This machine's, if code can be compiled for it."""
    return ARCHITECTURES.get(os.uname().machine)


def cpu_features(architecture: Architecture, cpu: str) -> tuple[str, ...]:
    """The features that code for a named CPU may use.

    Raises:
        UsageError: no such CPU is known.
    """
    found = architecture.cpus.get(cpu)
    if found is None:
        near = get_close_matches(cpu, architecture.cpus, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        native = "native, " if architecture is host_architecture() else ""
        raise UsageError(
            f"no CPU {cpu!r} is known for {architecture.name}; "
            f"{hint}expected {native}{', '.join(architecture.cpus)}"
        )
    return found


def used_features(architecture: Architecture, features: str) -> tuple[str, ...]:
    """Those of LLVM's feature words (``+avx,-avx512f``) that code may make use of; sorted."""
    on = {word[1:] for word in features.split(",") if word.startswith("+")}
    return tuple(sorted(on & architecture.features.keys()))


# Bits of the words that the kernel gives every process on aarch64 (AT_HWCAP, AT_HWCAP2), by the
# names they have in its own list. Source: Linux, arch/arm64/include/uapi/asm/hwcap.h.
_ARM_BITS = (
    (16, {"fp": 0, "asimd": 1, "aes": 3, "pmull": 4, "sha1": 5, "sha2": 6, "crc32": 7,
          "atomics": 8, "fphp": 9, "asimdhp": 10, "asimdrdm": 12, "jscvt": 13, "fcma": 14,
          "lrcpc": 15, "sha3": 17, "asimddp": 20, "sha512": 21, "asimdfhm": 23, "flagm": 27}),
    (26, {"flagm2": 7, "frint": 8, "i8mm": 13, "bf16": 14}),
)  # fmt: skip


@cache
def _kernel_words() -> frozenset[str]:
    if os.uname().machine == "aarch64":
        ask = ctypes.CDLL(None).getauxval
        ask.argtypes, ask.restype = [ctypes.c_ulong], ctypes.c_ulong
        return frozenset(
            name for kind, bits in _ARM_BITS for name, bit in bits.items() if ask(kind) >> bit & 1
        )
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    return frozenset()


def missing_features(architecture: Architecture, needed: Iterable[str]) -> list[str]:
    """Those of the features that this machine's CPU lacks; unknown ones count as lacking."""
    words = _kernel_words()
    return [
        name
        for name in needed
        if name not in architecture.features or not words.issuperset(architecture.features[name])
    ]

"""The devices of the ONNX backend, as ONNX Runtime reports them. Holds no models and no sessions.

Besides its own CPU provider ONNX Runtime has execution providers that are built into it, and others
in libraries that the host's user names (plugin EPs). Both kinds report devices through
`get_ep_devices`; where ONNX Runtime is too old to have that, there is the CPU alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from wasinn_host.nn.plugin import Device, ErrorKind, Target, WasiNnError

__all__ = ["EpDevices"]

_CPU_PROVIDER: Final = "CPUExecutionProvider"
_MIB: Final = 1024 * 1024
_TARGETS: Final = {"CPU": Target.CPU, "GPU": Target.GPU, "NPU": Target.TPU}

# ONNX Runtime keeps libraries for the whole process, and each name once.
_registered: Final[dict[str, Path]] = {}
_REGISTERING: Final = threading.Lock()


class EpDevices:
    """What models can run on, and the options that each provider gets.

    Args:
        libraries: ``NAME=PATH`` of plugin EPs, with commas between; they are loaded here.
        options: ``PROVIDER.KEY=VALUE``, with commas between.

    Raises:
        WasiNnError: says which part of which option is wrong, or which library is not loaded.
    """

    def __init__(self, libraries: str, options: str) -> None:
        for name, path in _libraries(libraries):
            _register(name, path)
        self._found = _found()
        self._options = _provider_options(options, {d.ep_name for d in self._found.values()})

    def devices(self) -> Sequence[Device]:
        """The CPU of ONNX Runtime itself first; ids are unique."""
        own = Device("cpu", Target.CPU, f"ONNX Runtime {ort.__version__}, CPU")
        return (own, *(_described(name, found) for name, found in self._found.items()))

    def add_to(self, options: Any, device: Device) -> str | None:
        """Makes a session's options run on a device.

        Args:
            options: a ``SessionOptions`` without providers.
            device: one of `devices`.

        Returns:
            The provider's name; None for ``cpu``, where nothing is added.

        Raises:
            WasiNnError: ONNX Runtime does not take the provider or its options.
        """
        found = self._found.get(device.id)
        if found is None:
            return None
        try:
            options.add_provider_for_devices([found], self._options.get(found.ep_name, {}))
        except Exception as error:
            text = " ".join(str(error).split())
            raise WasiNnError(
                ErrorKind.RUNTIME_ERROR,
                f"ONNX Runtime refuses {found.ep_name} with its ep_options: {text}",
            ) from error
        return str(found.ep_name)


def _found() -> dict[str, Any]:
    """What ONNX Runtime reports besides its own CPU provider, by id."""
    if not hasattr(ort, "get_ep_devices"):
        return {}
    named: dict[str, Any] = {}
    for found in ort.get_ep_devices():
        if found.ep_name == _CPU_PROVIDER or found.device.type.name not in _TARGETS:
            continue
        word = found.device.type.name.lower()
        base = name = f"{word}:{found.ep_name.removesuffix('ExecutionProvider').lower()}"
        count = 0
        while name in named:
            count += 1
            name = f"{base}:{count}"
        named[name] = found
    return named


def _described(name: str, found: Any) -> Device:
    hardware = found.device
    metadata = hardware.metadata
    words = [found.ep_name, metadata.get("Description") or hardware.vendor or found.ep_vendor]
    version = found.ep_metadata.get("version")
    if version:
        words[0] += f" {version}"
    text = ", ".join(" ".join(word.split()) for word in words if word)
    return Device(name, _TARGETS[hardware.type.name], text, _memory_bytes(metadata))


def _memory_bytes(metadata: Mapping[str, str]) -> int | None:
    """Windows alone reports it, as ``8192 MB`` (of 1024 times 1024 bytes); 0 is a shared memory."""
    number, _, unit = metadata.get("DxgiVideoMemory", "").partition(" ")
    if unit != "MB" or not (number.isascii() and number.isdigit()):
        return None
    return int(number) * _MIB or None


def _libraries(text: str) -> Sequence[tuple[str, Path]]:
    pairs = []
    for part in _parts(text):
        name, _, path = part.partition("=")
        if not name or not path:
            raise _wrong(f"option ep_library: expected NAME=PATH, got {part!r}")
        pairs.append((name, Path(path).absolute()))
    return pairs


def _register(name: str, path: Path) -> None:
    if not hasattr(ort, "register_execution_provider_library"):
        raise _wrong(
            f"option ep_library: ONNX Runtime {ort.__version__} takes no libraries of execution "
            "providers; install a newer one"
        )
    if not path.is_file():
        raise _wrong(f"option ep_library: {name}: there is no file {path}")
    with _REGISTERING:
        known = _registered.get(name)
        if known == path:
            return
        if known is not None:
            raise _wrong(
                f"option ep_library: {name} is {known} in this process already, not {path}"
            )
        try:
            ort.register_execution_provider_library(name, str(path))
        except Exception as error:
            text = " ".join(str(error).split())
            raise _wrong(
                f"option ep_library: {name}: {path} is no library of an execution provider that "
                f"ONNX Runtime {ort.__version__} can load: {text}"
            ) from error
        _registered[name] = path


def _provider_options(text: str, known: set[str]) -> dict[str, dict[str, str]]:
    options: dict[str, dict[str, str]] = {}
    for part in _parts(text):
        asked, equals, value = part.partition("=")
        provider, _, key = asked.partition(".")
        if not (provider and key and equals):
            raise _wrong(f"option ep_options: expected PROVIDER.KEY=VALUE, got {part!r}")
        if provider not in known:
            there = ", ".join(sorted(known)) or "none but the CPU's, which has no options"
            raise _wrong(f"option ep_options: no provider {provider}; there is: {there}")
        if key in options.setdefault(provider, {}):
            raise _wrong(f"option ep_options: {asked} is given twice")
        options[provider][key] = value
    return options


def _parts(text: str) -> Sequence[str]:
    return text.split(",") if text else ()


def _wrong(message: str) -> WasiNnError:
    return WasiNnError(ErrorKind.INVALID_ARGUMENT, message)

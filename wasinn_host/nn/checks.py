"""The door: whether a plugin's classes keep the contract of `plugin`. Not whether they work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from wasinn_host.nn.errors import PluginError, near
from wasinn_host.nn.plugin import API_VERSION, Backend, Device, ExecutionContext, Graph, Target

if TYPE_CHECKING:
    import inspect
    from collections.abc import Mapping

__all__ = [
    "check_backend_class",
    "check_context",
    "check_devices",
    "check_graph",
    "check_option_names",
    "check_path",
]

_CHECKED_METHODS: dict[type, tuple[str, ...]] = {
    Backend: ("__init__", "devices", "load", "close"),
    Graph: ("create_context", "close"),
    ExecutionContext: ("set_input", "compute", "get_output", "close"),
}

_known_good: set[type] = set()


def check_backend_class(candidate: object, who: str) -> type[Backend]:
    """Accepts the class that an entry point leads to, or says what is wrong with it.

    Args:
        candidate: what the entry point's import gave.
        who: plugin, distribution and version, for the message.

    Raises:
        PluginError: names the plugin and, for a wrong method, both signatures.
    """
    if not isinstance(candidate, type):
        raise PluginError(
            f"{who}: expected a class derived from wasinn_host.nn.plugin.Backend, "
            f"got {_describe(candidate)}"
        )
    if not issubclass(candidate, Backend):
        bases = ", ".join(_qualified(base) for base in candidate.__bases__)
        raise PluginError(
            f"{who}: class {_qualified(candidate)} must derive from "
            f"wasinn_host.nn.plugin.Backend; its bases are {bases}"
        )
    version = getattr(candidate, "api_version", None)
    if version != API_VERSION:
        got = "none" if version is None else repr(version)
        raise PluginError(
            f"{who}: {_qualified(candidate)}.api_version: this host speaks plugin API version "
            f"{API_VERSION}, the plugin says {got}; install a version of the plugin that fits"
        )
    encodings = getattr(candidate, "encodings", None)
    if (
        not isinstance(encodings, (frozenset, set))
        or not encodings
        or not all(isinstance(e, str) and e and e == e.lower() for e in encodings)
    ):
        raise PluginError(
            f"{who}: {_qualified(candidate)}.encodings: expected a non-empty frozenset of "
            f"lower-case names, got {encodings!r}"
        )
    _check_methods(candidate, Backend, who)
    return candidate


def check_option_names(cls: type[Backend], options: Mapping[str, str], who: str) -> None:
    """Accepts the user's options for a backend if it knows their names.

    Raises:
        PluginError: names the unknown one, and what there is.
    """
    for name in options:
        if name not in cls.options:
            raise PluginError(f"{who}: unknown option {name}; {near(name, sorted(cls.options))}")


def check_path(before: list[str], who: str) -> None:
    """Accepts an import that left ``sys.path`` as it was; else it is put right.

    Raises:
        PluginError: it did not.
    """
    if sys.path != before:
        sys.path[:] = before
        raise PluginError(f"{who}: changes sys.path when it is imported")


def check_devices(devices: object, who: str) -> tuple[Device, ...]:
    """Accepts what `Backend.devices` returned, or says what is wrong with it.

    Raises:
        PluginError: not a sequence of devices, or two devices with one id.
    """
    if not isinstance(devices, (list, tuple)):
        raise PluginError(
            f"{who}: devices() must return a sequence of Device, got {_describe(devices)}"
        )
    seen: set[str] = set()
    for device in devices:
        if not isinstance(device, Device) or not isinstance(device.target, Target):
            raise PluginError(f"{who}: devices() must return Device, got {_describe(device)}")
        if device.target is Target.AUTO:
            raise PluginError(f"{who}: device {device.id}: its target must be a real one, not AUTO")
        if device.id in seen:
            raise PluginError(f"{who}: devices() lists the id {device.id!r} twice")
        seen.add(device.id)
    return tuple(devices)


def check_graph(graph: object, who: str) -> Graph:
    """Accepts what `Backend.load` returned; each class is inspected once per process.

    Raises:
        PluginError: not a `Graph`, or one with a wrong signature.
    """
    if not isinstance(graph, Graph):
        raise PluginError(f"{who}: load() must return a Graph, got {_describe(graph)}")
    _check_methods(type(graph), Graph, who)
    return graph


def check_context(context: object, who: str) -> ExecutionContext:
    """Accepts what `Graph.create_context` returned; each class is inspected once per process.

    Raises:
        PluginError: not an `ExecutionContext`, or one with a wrong signature.
    """
    if not isinstance(context, ExecutionContext):
        raise PluginError(
            f"{who}: create_context() must return an ExecutionContext, got {_describe(context)}"
        )
    _check_methods(type(context), ExecutionContext, who)
    return context


def _check_methods(cls: type, base: type, who: str) -> None:
    if cls in _known_good:
        return
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    if abstract:
        raise PluginError(f"{who}: {_qualified(cls)} does not define {', '.join(abstract)}")
    from inspect import iscoroutinefunction, signature

    for name in _CHECKED_METHODS[base]:
        expected = getattr(base, name)
        actual = getattr(cls, name)
        if actual is expected:
            continue
        try:
            want, got = signature(expected), signature(actual)
        except (TypeError, ValueError):
            continue  # built in C without a signature: only calling it can tell
        if iscoroutinefunction(actual):
            raise PluginError(f"{who}: {_qualified(cls)}.{name} must not be async")
        if not _accepts(got, want):
            raise PluginError(
                f"{who}: {_qualified(cls)}.{name} has the wrong signature:\n"
                f"  expected {name}{want}\n"
                f"  got      {name}{got}"
            )
    _known_good.add(cls)


def _accepts(got: inspect.Signature, want: inspect.Signature) -> bool:
    """Whether a call with the positional arguments of one signature fits the other."""
    arguments: list[Any] = [None] * len(want.parameters)
    try:
        got.bind(*arguments)
    except TypeError:
        return False
    return True


def _qualified(cls: type) -> str:
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _describe(value: object) -> str:
    if value is None:
        return "None"
    return f"an object of type {_qualified(type(value))}"

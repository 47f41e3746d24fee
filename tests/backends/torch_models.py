"""Small PyTorch models, saved in both forms, and the registry that runs them."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from tests.nn.fake_guest import Guest
from wasinn_backends.torch import TorchBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext

CODE = """class M(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.M,
    x: Tensor{arguments}) -> {returns}:
    return {value}
"""
PICKLE = b"\x80\x02c__torch__\nM\nq\x00)\x81}(X\x08\x00\x00\x00trainingq\x01\x89ub."


def script(value: str, returns: str = "Tensor", arguments: str = "") -> bytes:
    """A TorchScript archive of one expression of ``x``, written without PyTorch."""
    code = CODE.format(value=value, returns=returns, arguments=arguments)
    return archive({"data.pkl": PICKLE, "code/__torch__.py": code.encode()})


def archive(records: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """A TorchScript archive of these records and those that all have."""
    file = io.BytesIO()
    common = {"constants.pkl": b"\x80\x02).", "version": b"3\n", "byteorder": b"little"}
    with zipfile.ZipFile(file, "w", how) as made:
        for name, data in {**common, **records}.items():
            made.writestr(f"m/{name}", data)
    return file.getvalue()


def changed(model: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """An archive with each record put through a function of its name and bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(model)) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return file.getvalue()


def traced(module: torch.nn.Module, *examples: torch.Tensor) -> bytes:
    """A module as a TorchScript archive, as PyTorch saves it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit: Any = torch.jit
        jit.save(jit.trace(module.eval(), examples), file)
    return file.getvalue()


def scripted(module: torch.nn.Module) -> bytes:
    """A module as a TorchScript archive of its code, not of what it did with an example."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit: Any = torch.jit
        jit.save(jit.script(module.eval()), file)
    return file.getvalue()


def linear(weight: torch.Tensor) -> torch.nn.Module:
    """y = x @ weight."""
    module = torch.nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    module.weight.data = weight.T.contiguous()
    return module


def torch_graphs(**options: str) -> GraphRegistry:
    """The PyTorch backend alone, with one thread unless said otherwise."""
    backends = BackendRegistry(options={"torch": {"threads": "1", **options}}, discover=False)
    backends.add("torch", TorchBackend)
    return GraphRegistry(backends)


class TorchGuest(Guest):
    """A guest whose models are PyTorch's."""

    def load(self, *builders: bytes, encoding: int = 3, target: int = 0) -> int:
        return super().load(*builders, encoding=encoding, target=target)


def torch_guest(pages: int = 64) -> Guest:
    """A guest of a fresh registry."""
    return TorchGuest(NnContext(torch_graphs()), pages=pages)

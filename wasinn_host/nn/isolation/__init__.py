"""Backends in a process of their own: what a model or a driver does there does not hurt the host.

The host's side looks like any other backend; the process holds the real one. Tensors lie in memory
that both see. A process that ends, or has to be ended because a computation does not, takes its
graphs and contexts with it: calls on those fail with ``runtime_error``, and the next one that needs
a process gets a new one, with the graphs loaded anew.
"""

from __future__ import annotations

from wasinn_host.nn.isolation.proxies import IsolatedBackend

__all__ = ["IsolatedBackend"]

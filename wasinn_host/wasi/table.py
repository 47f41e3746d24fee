"""The guest's descriptor numbers. Not what they stand for: see ``descriptors``.

Numbers are the guest's own: no host descriptor's number is ever shown to it or taken from it.
"""

from __future__ import annotations

import heapq

from wasinn_host.wasi.abi import Errno, Rights
from wasinn_host.wasi.descriptors import Descriptor, Directory
from wasinn_host.wasi.errors import WasiError

__all__ = ["DescriptorTable"]


class DescriptorTable:
    """Numbers to descriptors; the lowest free number is given out, as POSIX does.

    Args:
        limit: most descriptors open at once, standard streams and preopens included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[int, Descriptor] = {}
        self._free: list[int] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def refuse_if_full(self) -> None:
        """Ask before the host opens or creates anything.

        Raises:
            WasiError: MFILE.
        """
        if len(self._open) >= self._limit:
            raise WasiError(Errno.MFILE, f"{self._limit} descriptors are open, which is the limit")

    def add(self, descriptor: Descriptor) -> int:
        """Give a number to a descriptor, which the table then owns.

        Raises:
            WasiError: MFILE; the descriptor stays the caller's.
        """
        self.refuse_if_full()
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number = self._next
            self._next += 1
        self._open[number] = descriptor
        return number

    def skip(self) -> None:
        """Never give out the next number: a standard stream the host has not got.

        A file that landed there would receive what the guest prints.
        """
        self._next += 1

    def get(self, number: int, rights: int = 0) -> Descriptor:
        """The descriptor, if it has all of ``rights``.

        Raises:
            WasiError: BADF, no such number; NOTCAPABLE, a right is missing.
        """
        descriptor = self._open.get(number)
        if descriptor is None:
            raise WasiError(Errno.BADF, f"descriptor {number} is not open")
        missing = rights & ~descriptor.base
        if missing:
            raise WasiError(Errno.NOTCAPABLE, f"missing rights {_names(missing)}")
        return descriptor

    def directory(self, number: int, rights: int) -> Directory:
        """As ``get``, for a call that works on a directory.

        Raises:
            WasiError: also NOTDIR.
        """
        descriptor = self.get(number)
        if not isinstance(descriptor, Directory):
            raise WasiError(Errno.NOTDIR, f"descriptor {number} is not a directory")
        missing = rights & ~descriptor.base
        if missing:
            raise WasiError(Errno.NOTCAPABLE, f"missing rights {_names(missing)}")
        return descriptor

    def close(self, number: int) -> None:
        """Forget the number, then close; also when closing fails the number is free.

        Raises:
            WasiError: BADF.
        """
        descriptor = self.get(number)
        del self._open[number]
        heapq.heappush(self._free, number)
        descriptor.close()

    def renumber(self, old: int, new: int) -> None:
        """Move ``old`` to ``new``, which must be open and is closed.

        Raises:
            WasiError: BADF, one of them is not open.
        """
        moved = self.get(old)
        replaced = self.get(new)
        if old == new:
            return
        del self._open[old]
        heapq.heappush(self._free, old)
        self._open[new] = moved
        replaced.close()

    def close_all(self) -> None:
        """Close everything; the first error is raised after all were tried."""
        first: OSError | None = None
        while self._open:
            _, descriptor = self._open.popitem()
            try:
                descriptor.close()
            except OSError as error:
                first = first or error
        self._free.clear()
        self._next = 0
        if first is not None:
            raise first


def _names(rights: int) -> str:
    return " | ".join(
        name
        for name, bit in vars(Rights).items()
        if isinstance(bit, int) and bit.bit_count() == 1 and bit & rights
    )

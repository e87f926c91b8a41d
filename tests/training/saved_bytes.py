"""How many bytes the graphs of autograd keep alive for their backward passes."""

from __future__ import annotations

import weakref
from collections import Counter
from types import TracebackType

import torch
from torch import Tensor


class _Kept:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedBytes:
    """A context in which `peak` is the most bytes that were kept at once; a storage that is kept twice counts once.

    What is in `there` is left out: the caller holds it anyway.
    """

    def __init__(self, *there: Tensor) -> None:
        self.peak = 0
        self._there = {tensor.untyped_storage().data_ptr() for tensor in there}
        self._now = 0
        self._owners: Counter[int] = Counter()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor)

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _keep(self, tensor: Tensor) -> _Kept:
        kept = _Kept(tensor)
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._there:
            return kept
        if self._owners[address] == 0:
            self._now += size
            self.peak = max(self.peak, self._now)
        self._owners[address] += 1
        weakref.finalize(kept, self._drop, address, size)
        return kept

    def _drop(self, address: int, size: int) -> None:
        self._owners[address] -= 1
        if self._owners[address] == 0:
            self._now -= size

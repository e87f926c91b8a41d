"""Which pictures make a batch, in which order, and with which random numbers: a function of seed and epoch alone.

No process keeps a state that a draw depends on. So a run that is resumed in the middle of an epoch begins there without
reading what was seen, and several devices, of which each has its share of every batch, see the batches of one device.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from captioner.errors import ConfigurationError

_POOL = 50  # batches that are sorted by length together: enough for like lengths, few enough to stay random

_Item_co = TypeVar("_Item_co", covariant=True)


class Place(NamedTuple):
    """A picture of a split, and the seed of all that is drawn for it in this epoch."""

    picture: int
    seed: int


class EpochBatches(Sampler[list[Place]]):
    """The batches of one process, epoch after epoch.

    In training the pictures are shuffled, batches have all the same size, and those that are left over wait for another
    epoch, in which they will be others. In validation all pictures come once, in order, in batches of nearly one size;
    each process has as many batches as the others.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        lengths: Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Batches of `count` pictures.

        Args:
            count: pictures of the split.
            batch_size: pictures a step and process.
            shuffle: for training.
            seed: of the run.
            lengths: (count,), of each picture's longest caption; then a shuffled batch has pictures of like lengths.
            rank: the number of this process among `world_size`.
            world_size: processes that share each batch.

        Raises:
            ConfigurationError: there are fewer pictures than processes.
        """
        if count < world_size:
            raise ConfigurationError(f"{count} pictures are too few for {world_size} devices: use fewer devices")
        self.count, self.shuffle, self.lengths = count, shuffle, lengths
        self.rank, self.world_size = rank, world_size
        self._global_size = batch_size * world_size
        self.seed = seed
        self.epoch = 0
        self.start = 0  # batches of this epoch that were seen before
        self.sampler = self  # Lightning tells the epoch to DataLoader.batch_sampler.sampler

    def set_epoch(self, epoch: int) -> None:
        """Lightning's hook, before every epoch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        if self.shuffle:
            return max(1, self.count // self._global_size)
        # at least one picture for every process in each
        return min(math.ceil(self.count / self._global_size), self.count // self.world_size)

    def __iter__(self) -> Iterator[list[Place]]:
        """The batches that this epoch still has."""
        for batch in self._batches()[self.start :]:
            share = batch[self.rank :: self.world_size]
            yield [Place(index, item_seed(self.seed, self.epoch, index)) for index in share]

    def _batches(self) -> list[list[int]]:
        """The batches of the epoch, each for all processes together."""
        if not self.shuffle:
            ends = [self.count * number // len(self) for number in range(len(self) + 1)]
            return [list(range(start, end)) for start, end in pairwise(ends)]
        generator = torch.Generator().manual_seed(item_seed(self.seed, self.epoch, -1))
        order = torch.randperm(self.count, generator=generator)[: len(self) * self._global_size]
        if self.lengths is None:
            return [chunk.tolist() for chunk in torch.split(order, self._global_size)]
        lengths = self.lengths
        pools = [pool[lengths[pool].argsort(stable=True)] for pool in torch.split(order, _POOL * self._global_size)]
        batches = [chunk.tolist() for pool in pools for chunk in torch.split(pool, self._global_size)]
        return [batches[number] for number in torch.randperm(len(batches), generator=generator).tolist()]


def item_seed(seed: int, epoch: int, index: int) -> int:
    """63 bits that depend on each of the three numbers, and look unlike those of their neighbours."""
    digest = hashlib.blake2b(f"{seed} {epoch} {index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _own_session(worker: int) -> None:
    """Leave the group of the main process, which alone answers signals.

    Ctrl-C, `timeout` and torchrun signal the whole group: workers that end by it would end the run in a traceback
    before its checkpoint is written. They still end when the main process does, since they ask for it.
    """
    if os.name == "posix":
        os.setsid()


class ResumableLoader(DataLoader[_Item_co]):
    """A data loader that knows how far it is, so that a checkpoint can say it (Lightning asks for `state_dict`)."""

    def __init__(
        self,
        dataset: Dataset[_Item_co],
        batches: EpochBatches,
        *,
        collate_fn: Callable[[list[_Item_co]], Any],
        **rest: Any,
    ) -> None:
        """The `batches` of `dataset`, whose items are asked for by Place; `rest` is that of torch's DataLoader."""
        # a generator of its own: the processes' seeds, which nothing depends on, take no global random number
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=collate_fn,
            generator=torch.Generator(),
            worker_init_fn=_own_session,
            **rest,
        )
        self.batches = batches
        self._seen = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches from the place where the epoch is; nothing is read before the first one is asked for."""
        self._seen = self.batches.start
        for batch in super().__iter__():
            self._seen += 1
            yield batch
        self.batches.start = 0  # for whoever goes through the same epoch again

    def state_dict(self) -> dict[str, int]:
        """How far it is."""
        return {"seed": self.batches.seed, "epoch": self.batches.epoch, "seen": self._seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on there."""
        self.batches.seed, self.batches.epoch, self.batches.start = state["seed"], state["epoch"], state["seen"]

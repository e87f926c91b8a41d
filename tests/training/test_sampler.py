"""The batches of an epoch: a function of seed and epoch, shared by devices, and resumed in the middle."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import ConfigurationError
from captioner.training.sampler import EpochBatches, Place, ResumableLoader


def epoch(batches: EpochBatches, number: int) -> list[list[Place]]:
    batches.set_epoch(number)
    return list(batches)


def indices(batches: list[list[Place]]) -> list[int]:
    return [place.picture for batch in batches for place in batch]


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_devices_share_the_batches_of_one_device(count: int, size: int, world_size: int, shuffle: bool) -> None:
    if count < world_size:
        with pytest.raises(ConfigurationError, match=f"{count} pictures are too few for {world_size} devices"):
            EpochBatches(count, batch_size=size, shuffle=shuffle, seed=1, world_size=world_size)
        return
    alone = EpochBatches(count, batch_size=size * world_size, shuffle=shuffle, seed=1)
    shared = [
        EpochBatches(count, batch_size=size, shuffle=shuffle, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for number in (0, 3):
        parts = [epoch(batches, number) for batches in shared]
        assert len({len(part) for part in parts}) == 1  # else one process would wait for ever
        assert all(batch for part in parts for batch in part)
        assert {len(part) for part in parts} == {len(shared[0])}
        together = [sorted(itertools.chain(*batch)) for batch in zip(*parts, strict=True)]
        if shuffle:
            assert together == [sorted(batch) for batch in epoch(alone, number)]
        else:  # every picture once
            assert sorted(place.picture for batch in together for place in batch) == list(range(count))


def test_training_shuffles_anew_each_epoch_and_leaves_out_less_than_a_batch() -> None:
    batches = EpochBatches(50, batch_size=8, shuffle=True, seed=7)
    first, second = epoch(batches, 0), epoch(batches, 1)
    assert [len(batch) for batch in first] == [8] * 6
    assert len(set(indices(first))) == 48
    assert indices(first) != indices(second)
    assert epoch(batches, 0) == first
    assert epoch(EpochBatches(50, batch_size=8, shuffle=True, seed=8), 0) != first
    seen = {index for number in range(6) for index in indices(epoch(batches, number))}
    assert seen == set(range(50))
    seeds = [place.seed for batch in first + second for place in batch]
    assert len(set(seeds)) == len(seeds)


def test_fewer_pictures_than_a_batch_are_one_batch() -> None:
    assert sorted(indices(epoch(EpochBatches(3, batch_size=8, shuffle=True, seed=1), 0))) == [0, 1, 2]


def test_bucketing_saves_padding_and_stays_random() -> None:
    lengths = torch.randint(6, 22, (4000,), generator=torch.Generator().manual_seed(1))

    def padded(lengths_given: torch.Tensor | None, number: int) -> tuple[int, list[list[int]]]:
        batches = EpochBatches(4000, batch_size=16, shuffle=True, seed=3, lengths=lengths_given)
        found = [[place.picture for place in batch] for batch in epoch(batches, number)]
        return sum(int(lengths[batch].max()) * len(batch) for batch in found), found

    plain, _ = padded(None, 0)
    bucketed, batches = padded(lengths, 0)
    real = int(lengths.sum())
    assert bucketed - real < 0.1 * (plain - real)
    assert sorted(itertools.chain(*batches)) == list(range(4000))
    assert batches != padded(lengths, 1)[1]
    longest = torch.tensor([int(lengths[batch].max()) for batch in batches]).double()
    drift = torch.corrcoef(torch.stack([longest, torch.arange(len(longest)).double()]))[0, 1]
    assert abs(float(drift)) < 0.2  # short and long batches come in no order


class Reading(torch.utils.data.Dataset[Place]):
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.read: list[Place] = []

    def __getitem__(self, place: Place) -> Place:
        self.read.append(place)
        return place


def loader() -> tuple[ResumableLoader[Place], Reading]:
    data = Reading()
    return ResumableLoader(data, EpochBatches(20, batch_size=4, shuffle=True, seed=5), collate_fn=list), data


def test_a_loader_goes_on_in_the_middle_of_an_epoch_and_reads_nothing_again() -> None:
    whole, _ = loader()
    whole.batches.set_epoch(2)
    iterator = iter(whole)
    seen = [next(iterator), next(iterator)]
    state = whole.state_dict()
    rest = list(iterator)
    before = torch.get_rng_state()
    resumed, data = loader()
    resumed.load_state_dict(state)
    resumed.batches.set_epoch(2)  # as Lightning does before every epoch
    assert list(resumed) == rest
    assert sorted(data.read) == sorted(itertools.chain(*rest))
    assert not {place.picture for batch in seen for place in batch} & {place.picture for place in data.read}
    assert torch.equal(torch.get_rng_state(), before)  # no random number of others is taken
    resumed.batches.set_epoch(3)
    whole.batches.set_epoch(3)
    assert list(resumed) == list(whole)
    assert len(list(whole)) == 5


def test_a_state_of_a_finished_epoch_does_not_shorten_the_next() -> None:
    whole, _ = loader()
    assert len(list(whole)) == 5
    resumed, _ = loader()
    resumed.load_state_dict(whole.state_dict())
    resumed.batches.set_epoch(1)
    assert len(list(resumed)) == 5


READING = """
import os, signal, sys
from captioner.training.sampler import EpochBatches, ResumableLoader

class Processes:
    def __getitem__(self, place):
        return os.getpid()

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: None)
batches = EpochBatches(1000, batch_size=4, shuffle=True, seed=5)
seen = iter(ResumableLoader(Processes(), batches, collate_fn=list, num_workers=2))
workers = {next(seen)[0], next(seen)[0]}
print(len(workers - {os.getpid()}), flush=True)
sys.stdin.readline()
print(sum(1 for _ in zip(range(200), seen)), flush=True)
sys.stdin.readline()
"""


def test_reading_processes_outlive_a_signal_to_the_group_and_end_with_the_main_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READING], start_new_session=True, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "2\n"
            for number in (signal.SIGINT, signal.SIGTERM):
                os.killpg(process.pid, number)
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert process.stdout.readline() == "200\n"
        finally:
            process.kill()
        process.communicate(timeout=600)  # until nobody holds the other end any more: the workers have it, too

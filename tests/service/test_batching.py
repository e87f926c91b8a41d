"""The queue and its thread, over engines that need no model: every request gets its own pictures' results."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import ImageError, UnreadableImage
from service.batching import Batching, BatchReport, Bounds, Pixels, Shed

BAD = b"bad"


class Numbers:
    """Pictures are numbers in decimal; reading them takes a random moment in other threads, the model none.

    Where `gate` is cleared, the model waits for it and `inside` tells that it does.
    """

    def __init__(self, seed: int = 0) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.failure: Exception | None = None
        self._random = random.Random(seed)
        self._pool = ThreadPoolExecutor(3)

    def read(self, source: bytes) -> Future[Pixels]:
        """The number as one pixel, later."""
        return self._pool.submit(self._read, source, self._random.random() / 500)

    def encode(self, pixels: Pixels) -> Any:  # as Encoder says
        """The numbers themselves."""
        self.batches.append(pixels[:, 0].tolist())
        self.threads.add(threading.get_ident())
        self.inside.release()
        assert self.gate.wait(120)
        if self.failure is not None:
            raise self.failure
        return pixels[:, 0].astype(np.int64)

    def close(self) -> None:
        """End the reading threads."""
        self._pool.shutdown()

    @staticmethod
    def _read(source: bytes, seconds: float) -> Pixels:
        time.sleep(seconds)
        if source == BAD:
            raise UnreadableImage("bad")
        if not source:
            raise RuntimeError("no reading process starts")
        return np.array([int(source)], np.uint8)


@dataclass(frozen=True)
class Times:
    """Multiplies; 0 fails."""

    factor: int
    runs: list[int] = field(default_factory=list, compare=False)

    def run(self, features: Any) -> list[int]:  # as Task says
        """`features` times the factor."""
        self.runs.append(len(features))
        if self.factor == 0:
            raise ArithmeticError("zero")
        return [int(each) * self.factor for each in features]


@pytest.fixture
def numbers() -> Iterator[Numbers]:
    """An engine, closed in the end."""
    engine = Numbers()
    yield engine
    engine.gate.set()
    engine.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Batching]]:
    """Makes a Batching of some bounds, and closes it in the end."""
    made: list[Batching] = []

    def make(*, on_batch: Callable[[BatchReport], None] = lambda _report: None, **bounds: Any) -> Batching:
        made.append(Batching(Bounds(**bounds), on_batch=on_batch))
        return made[-1]

    yield make
    for batching in made:
        batching.close()


class Asking:
    """One request in a thread of its own."""

    def __init__(self, batching: Batching, engine: Numbers, numbers: Sequence[int], **keywords: Any) -> None:
        self._pool = ThreadPoolExecutor(1)
        sources = [b"%d" % number for number in numbers]
        task: Times = keywords.pop("task", Times(1))
        self._future = self._pool.submit(lambda: batching.results(engine, sources, task, **keywords))

    def answer(self) -> list[int | ImageError]:
        """Its results, or what it raised."""
        try:
            return self._future.result(20)
        finally:
            self._pool.shutdown()

    def shed(self) -> str:
        """Why it was turned away."""
        with pytest.raises(Shed) as caught:
            self.answer()
        return caught.value.reason


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


requests = st.lists(
    st.tuples(
        st.lists(st.one_of(st.integers(0, 255), st.none()), max_size=7),  # None: a bad picture
        st.integers(0, 3),  # the factor; 0 fails
        st.integers(0, 4),  # milliseconds before it comes
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(requests=requests, max_batch=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_request_gets_its_own_pictures_results_in_order(
    requests: list[tuple[list[int | None], int, int]], max_batch: int, seed: int
) -> None:
    engine = Numbers(seed)
    reports: list[BatchReport] = []
    batching = Batching(Bounds(max_pictures=1000, max_batch=max_batch), on_batch=reports.append)

    def ask(request: tuple[list[int | None], int, int]) -> list[int | ImageError] | Exception:
        pictures, factor, milliseconds = request
        time.sleep(milliseconds / 1000)
        try:
            return batching.results(engine, [BAD if each is None else b"%d" % each for each in pictures], Times(factor))
        except ArithmeticError as error:
            return error

    with ThreadPoolExecutor(max(1, len(requests))) as pool:
        answers = list(pool.map(ask, requests))
    batching.close()
    engine.close()
    for (pictures, factor, _), answer in zip(requests, answers, strict=True):
        good = [each for each in pictures if each is not None]
        if good and factor == 0:
            assert isinstance(answer, ArithmeticError)
            continue
        assert isinstance(answer, list)
        assert len(answer) == len(pictures)
        for number, result in zip(pictures, answer, strict=True):
            assert isinstance(result, UnreadableImage) if number is None else result == number * factor
    assert all(len(batch) <= max_batch for batch in engine.batches)
    assert len(engine.threads) <= 1
    assert [len(report.waited_seconds) for report in reports] == [len(batch) for batch in engine.batches]
    assert batching.depth == 0


def test_what_waits_together_goes_together(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching = start(max_batch=5)
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    twice, thrice = Times(2), Times(3)
    others = [Asking(batching, numbers, [10 * each, 10 * each + 1], task=twice) for each in (1, 2)]
    others += [Asking(batching, numbers, [30], task=thrice)]
    until(lambda: batching.depth == 6 and len(batching._ready) == 5)
    numbers.gate.set()
    assert first.answer() == [0]
    assert [other.answer() for other in others] == [[20, 22], [40, 42], [90]]
    assert sorted(numbers.batches[1]) == [10, 11, 20, 21, 30]  # one pass of the encoder
    assert (twice.runs, thrice.runs) == ([4], [1])  # and one search for equal tasks


def test_nothing_waits_for_a_batch_to_fill(numbers: Numbers, start: Callable[..., Batching]) -> None:
    reports: list[BatchReport] = []
    batching = start(on_batch=reports.append)
    for number in range(30):
        assert batching.results(numbers, [b"%d" % number], Times(1)) == [number]
    until(lambda: len(reports) == 30)
    # reading takes 1 ms on average, and 2 ms at most; a wait for company would show in every one of them
    assert sorted(report.waited_seconds[0] for report in reports)[10] < 0.004


def test_an_empty_request_needs_no_model(numbers: Numbers, start: Callable[..., Batching]) -> None:
    assert start().results(numbers, [], Times(1)) == []
    assert numbers.batches == []


def test_a_failing_encoder_fails_its_batch_only(numbers: Numbers, start: Callable[..., Batching]) -> None:
    reports: list[BatchReport] = []
    batching = start(on_batch=reports.append)
    numbers.failure = RuntimeError("out of memory")
    for _ in range(3):
        with pytest.raises(RuntimeError, match="out of memory"):
            batching.results(numbers, [b"1", b"2"], Times(1))
    numbers.failure = None
    assert batching.results(numbers, [b"1", b"2"], Times(1)) == [1, 2]
    until(lambda: not reports[-1].failed)
    assert reports[0].failed
    assert len(numbers.threads) == 1


def test_a_failing_task_fails_alone(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching = start()
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    good, bad = Asking(batching, numbers, [1, 2]), Asking(batching, numbers, [3], task=Times(0))
    until(lambda: len(batching._ready) == 3)
    numbers.gate.set()
    with pytest.raises(ArithmeticError) as caught:
        bad.answer()
    assert "run" in {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}  # the log says where
    assert good.answer() == [1, 2]
    assert first.answer() == [0]


def test_reading_that_fails_for_no_fault_of_the_picture_is_an_error(
    numbers: Numbers, start: Callable[..., Batching]
) -> None:
    batching = start()
    with pytest.raises(RuntimeError, match="no reading process"):
        batching.results(numbers, [b"1", b"", b"2"], Times(1))
    until(lambda: batching.depth == 0)
    numbers.close()
    with pytest.raises(RuntimeError, match="shutdown"):  # `read` itself raises
        batching.results(numbers, [b"1"], Times(1))
    assert batching.depth == 0


def test_a_full_queue_says_when_it_will_be_empty(numbers: Numbers, start: Callable[..., Batching]) -> None:
    reports: list[BatchReport] = []
    batching = start(max_pictures=4, max_batch=2, on_batch=reports.append)
    assert batching.retry_after_seconds == 1  # nothing waits, nothing was measured
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    time.sleep(0.7)  # what a picture takes from now on, or longer on a busy machine
    numbers.gate.set()
    assert first.answer() == [0]
    until(lambda: batching.depth == 0)
    numbers.gate.clear()
    second = Asking(batching, numbers, [1])
    assert numbers.inside.acquire(timeout=120)
    third = Asking(batching, numbers, [2, 3, 4])
    until(lambda: batching.depth == 4)
    with pytest.raises(Shed) as caught:
        batching.results(numbers, [b"5", b"6"], Times(1))
    assert caught.value.reason == "full"
    assert reports[0].seconds >= 0.7
    assert batching.retry_after_seconds == math.ceil(4 * reports[0].seconds)  # 3
    fourth = Asking(batching, numbers, [5])
    until(lambda: batching.depth == 5)
    numbers.gate.set()
    assert [each.answer() for each in (second, third, fourth)] == [[1], [2, 3, 4], [5]]


def test_a_request_of_more_than_the_bound_has_its_turn(numbers: Numbers, start: Callable[..., Batching]) -> None:
    assert start(max_pictures=2, max_batch=2).results(numbers, [b"1"] * 5, Times(1)) == [1] * 5


def test_an_expired_request_never_reaches_the_model(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching = start(deadline_seconds=0.2)
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    began = time.monotonic()
    assert Asking(batching, numbers, [1, 2]).shed() == "expired"
    assert 0.2 <= time.monotonic() - began < 5  # it heard so at its deadline, whatever the model did
    assert batching.depth == 1
    numbers.gate.set()
    assert first.answer() == [0]  # late, but the model had begun
    assert batching.results(numbers, [b"3"], Times(1)) == [3]
    assert numbers.batches == [[0], [3]]


def test_a_request_whose_client_has_gone_never_reaches_the_model(
    numbers: Numbers, start: Callable[..., Batching]
) -> None:
    batching = start()
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    gone = threading.Event()
    second, third = Asking(batching, numbers, [1, 2], gone=gone.is_set), Asking(batching, numbers, [3])
    until(lambda: len(batching._ready) == 3)
    gone.set()
    numbers.gate.set()
    assert second.shed() == "gone"
    assert (first.answer(), third.answer()) == ([0], [3])
    assert numbers.batches == [[0], [3]]


def test_a_client_that_goes_in_the_middle_of_its_request(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching = start(max_batch=2)
    numbers.gate.clear()
    gone = threading.Event()
    first = Asking(batching, numbers, [1, 2, 3, 4, 5], gone=gone.is_set)
    assert numbers.inside.acquire(timeout=120)
    second = Asking(batching, numbers, [9])
    until(lambda: len(batching._ready) >= 4)
    gone.set()
    numbers.gate.set()
    assert first.shed() == "gone"
    assert second.answer() == [9]
    assert numbers.batches[1:] == [[9]]


def test_the_gone_make_room(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching = start(max_pictures=2)
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    gone = threading.Event()
    second = Asking(batching, numbers, [1, 2], gone=gone.is_set)
    until(lambda: batching.depth == 3)
    gone.set()
    third = Asking(batching, numbers, [3, 4])
    assert second.shed() == "gone"  # while the model was busy
    numbers.gate.set()
    assert (first.answer(), third.answer()) == ([0], [3, 4])


def test_closing_answers_what_was_accepted(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching = start(max_batch=2)
    numbers.gate.clear()
    asking = [Asking(batching, numbers, [each, each + 1, each + 2]) for each in range(4)]
    until(lambda: batching.depth == 12)
    closing = threading.Thread(target=batching.close)
    closing.start()
    until(lambda: batching._closed)
    assert Asking(batching, numbers, [9]).shed() == "stopping"
    assert closing.is_alive()
    numbers.gate.set()
    closing.join(120)
    assert not closing.is_alive()
    assert [each.answer() for each in asking] == [[each, each + 1, each + 2] for each in range(4)]
    batching.close()


def test_readers_that_were_closed_are_no_error_of_the_picture(start: Callable[..., Batching]) -> None:
    class Closed(Numbers):
        def read(self, source: bytes) -> Future[Pixels]:
            future: Future[Pixels] = Future()
            future.cancel()
            return future

    engine = Closed()
    with pytest.raises(Shed, match="stopping"):
        start().results(engine, [b"1"], Times(1))
    engine.close()
    assert not issubclass(CancelledError, ImageError)


def test_two_engines_share_no_batch(numbers: Numbers, start: Callable[..., Batching]) -> None:
    batching, other = start(), Numbers()
    numbers.gate.clear()
    first = Asking(batching, numbers, [0])
    assert numbers.inside.acquire(timeout=120)
    asking = [Asking(batching, engine, [each]) for each, engine in enumerate((numbers, other, numbers, other), 1)]
    until(lambda: len(batching._ready) == 4)
    numbers.gate.set()
    assert first.answer() == [0]
    assert [each.answer() for each in asking] == [[1], [2], [3], [4]]
    assert all(number % 2 == 0 for batch in other.batches for number in batch)
    assert all(number % 2 == 1 for batch in numbers.batches[1:] for number in batch)
    other.close()


@pytest.mark.parametrize("factor", [1, 0])
def test_nothing_is_kept_of_a_request(numbers: Numbers, start: Callable[..., Batching], factor: int) -> None:
    batching = start()
    task = Times(factor)
    with contextlib.suppress(ArithmeticError):
        batching.results(numbers, [b"1"], task)
    kept = weakref.ref(task)
    gc.disable()  # memory is free at once, not when the collector comes by
    del task
    try:
        until(lambda: kept() is None)
    finally:
        gc.enable()

"""The queue between generation and writer never holds more than its bound."""

from __future__ import annotations

import threading
import time

import pytest

from tracer.tracefile.writing.byte_queue import ByteQueue


def test_first_in_first_out() -> None:
    queue: ByteQueue[int] = ByteQueue(100)
    for item in range(5):
        queue.put(item, 10)
    assert queue.peak_bytes == 50
    for expected, (item, nbytes) in enumerate(queue.take()):
        assert (item, nbytes) == (expected, 10)
        queue.done(nbytes)
    assert queue.waits == 0
    queue.join()


@pytest.mark.timeout(30)
def test_a_full_queue_makes_the_producer_wait_and_counts_it() -> None:
    queue: ByteQueue[int] = ByteQueue(100)
    most = 0

    def consume() -> None:
        nonlocal most
        taken = 0
        while taken < 40:
            for _, nbytes in queue.take():
                most = max(most, queue.peak_bytes)
                time.sleep(0.001)
                queue.done(nbytes)
                taken += 1

    thread = threading.Thread(target=consume)
    thread.start()
    for item in range(40):
        queue.put(item, 30 + item % 3)
    queue.join()
    thread.join()
    assert most <= 100
    assert queue.peak_bytes <= 100
    assert queue.waits > 0
    assert queue.wait_seconds > 0


@pytest.mark.timeout(30)
def test_an_item_larger_than_the_bound_passes_alone() -> None:
    queue: ByteQueue[str] = ByteQueue(100)
    queue.put("small", 10)
    passed = threading.Event()

    def produce() -> None:
        queue.put("large", 1000)
        passed.set()

    thread = threading.Thread(target=produce)
    thread.start()
    assert not passed.wait(0.05)
    assert queue.take() == [("small", 10)]
    assert not passed.wait(0.05)  # still being worked on
    queue.done(10)
    assert passed.wait(5)
    thread.join()
    queue.put("nothing", 0)  # what weighs nothing never waits
    assert queue.take() == [("large", 1000), ("nothing", 0)]


def taken_in_time(queue: ByteQueue[str]) -> list[str]:
    """What the consumer takes; the test's time limit is shorter than the queue lingers."""
    return [item for item, _ in queue.take()]


@pytest.mark.timeout(30)
def test_an_urgent_item_ends_the_wait_for_more() -> None:
    queue: ByteQueue[str] = ByteQueue(100, linger=600)
    queue.put("a", 1)
    threading.Timer(0.05, lambda: queue.put("b", 1, urgent=True)).start()
    assert taken_in_time(queue) == ["a", "b"]


@pytest.mark.timeout(30)
def test_a_quarter_of_the_bound_ends_the_wait_for_more() -> None:
    queue: ByteQueue[str] = ByteQueue(100, linger=600)
    queue.put("a", 20)
    threading.Timer(0.05, lambda: queue.put("b", 20)).start()
    assert taken_in_time(queue) == ["a", "b"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("wait", ["join", "a full queue"])
def test_whoever_waits_for_the_queue_ends_the_wait_for_more(wait: str) -> None:
    queue: ByteQueue[str] = ByteQueue(100, linger=600)
    queue.put("a", 20)
    thread = threading.Thread(target=queue.join if wait == "join" else lambda: queue.put("b", 90))
    thread.start()
    assert taken_in_time(queue) == ["a"]
    queue.done(20)
    thread.join()


@pytest.mark.timeout(30)
def test_what_lingers_is_taken_in_the_end() -> None:
    queue: ByteQueue[str] = ByteQueue(100, linger=0.01)
    queue.put("a", 1)
    assert taken_in_time(queue) == ["a"]

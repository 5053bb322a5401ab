"""The queue between generation and writer never holds more than its bound."""

from __future__ import annotations

import threading
import time

import pytest

from tracer.tracefile.byte_queue import ByteQueue


def test_first_in_first_out() -> None:
    queue: ByteQueue[int] = ByteQueue(100)
    for item in range(5):
        queue.put(item, 10)
    assert queue.peak_bytes == 50
    for item in range(5):
        assert queue.get() == (item, 10)
        queue.done(10)
    assert queue.waits == 0
    queue.join()


@pytest.mark.timeout(30)
def test_a_full_queue_makes_the_producer_wait_and_counts_it() -> None:
    queue: ByteQueue[int] = ByteQueue(100)
    most = 0

    def consume() -> None:
        nonlocal most
        for _ in range(40):
            _, nbytes = queue.get()
            most = max(most, queue.peak_bytes)
            time.sleep(0.001)
            queue.done(nbytes)

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
    assert queue.get() == ("small", 10)
    assert not passed.wait(0.05)  # still being worked on
    queue.done(10)
    assert passed.wait(5)
    thread.join()
    queue.put("nothing", 0)  # what weighs nothing never waits
    assert queue.get() == ("large", 1000)

"""Figures of whole traced runs are made from real runs."""

from __future__ import annotations

import pytest

from tests.benchmarks.figures import opening_and_closing, sizes_and_speed
from tests.benchmarks.memory import memory_growth
from tests.benchmarks.models import Subject
from tests.support.models import tiny_model

pytestmark = pytest.mark.reference_only("the benchmarks run with the required release")


def subject() -> Subject:
    return Subject("tiny", tiny_model(vocab_size=20_000))


def test_sizes_and_speed() -> None:
    found = sizes_and_speed(subject(), 12)
    assert found["bytes a step, stats"] > 0
    assert found["bytes a step, tensors (kv, logits)"] > found["bytes a step, shapes"]
    assert min(found["steps written a second"], found["steps read a second"]) > 0
    assert opening_and_closing(subject()) > 0


def test_memory_is_that_of_host_and_device() -> None:
    assert set(memory_growth(subject(), 20)) == {"host", "device"}

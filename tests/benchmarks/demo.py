"""The demo model as the benchmarks run it."""

from __future__ import annotations

from tests.benchmarks.models import Subject
from tracer.loading.model_spec import ModelSpec
from tracer.loading.models import load_model


def demo_subject() -> Subject:
    """The demo model on the CPU."""
    return Subject("demo model (SmolLM2-135M), float32, CPU", load_model(ModelSpec(device_map="cpu")).model)

"""The model of a recorded run, loaded again as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from tracer.analysis.rerun_plan import RerunPlan
from tracer.loading import demo_model
from tracer.loading.model_spec import ModelSpec
from tracer.loading.models import LoadedModel, load_model
from tracer.loading.progress import Progress
from tracer.rerun.checks import require_same_model
from tracer.rerun.model_source import ModelSource
from tracer.tracefile import TraceRun


@contextlib.contextmanager
def model_of_run(
    run: TraceRun, plan: RerunPlan, source: ModelSource, progress: Progress
) -> Iterator[LoadedModel]:
    """Load the model, and compute as the run did while the context is open.

    Args:
        run: the run.
        plan: how to repeat it.
        source: where the model is.
        progress: receives the phases.

    Raises:
        UsageError: it is another model.
        TraceGenerateError: it cannot be loaded, as in a traced run.
    """
    recorded = plan.model
    name = source.model if source.model is not None else recorded.name
    spec = ModelSpec(
        name=None if name == demo_model.NAME else name,
        dtype=recorded.dtype,
        device_map=_device_map(recorded.devices),
        attention=recorded.attention,
        revision=source.revision,
        trust_remote_code=source.trust_remote_code,
    )
    with _threads(run.header.versions.get("threads")):
        loaded = load_model(spec, progress)
        require_same_model(plan, loaded.model)
        yield loaded


def _device_map(devices: dict[str, str]) -> str | dict[str, str]:
    return next(iter(devices.values())) if len(devices) == 1 else devices


@contextlib.contextmanager
def _threads(recorded: str | None) -> Iterator[None]:
    """Compute with as many threads as the recorded run: the number decides the order of sums."""
    before = torch.get_num_threads()
    if recorded is not None and recorded.isdecimal() and 0 < int(recorded) <= 1024:
        torch.set_num_threads(int(recorded))
    try:
        yield
    finally:
        torch.set_num_threads(before)

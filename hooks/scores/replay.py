"""Repeat processors and draws of a recording with torch and transformers themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.generation import logits_process as library

from tracer.analysis.draw import Drawn
from tracer.analysis.processors.edits import RepetitionPenalty
from tracer.analysis.processors.parsing import KINDS, settings_of
from tracer.analysis.processors.processor import Context, PlacedProcessor
from tracer.errors import UnsupportedError
from tracer.messages import named, one_line
from tracer.schema.arrays import F32, I64

_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class TorchReplayer:
    """Runs recorded logits through transformers' own processors, and draws with recorded random states.

    It leaves the process's own random state alone: all draws use generators of their own.
    """

    def process(
        self, placed: Sequence[PlacedProcessor], context: Context, logits: F32, *, device: str, dtype: str
    ) -> list[F32]:
        """Scores ``[V]`` of one row after each processor (see :class:`tracer.analysis.draw.Replayer`)."""
        place = _device(device)
        scores = _tensor(logits, place, dtype)[None]
        stages = []
        for each in placed:
            with _repeating(each.name):
                ids = torch.from_numpy(_counted(each, context)).to(place)[None]
                scores = make_processor(each, device)(ids, scores)
            stages.append(_array(scores)[0])
        return stages

    def draw(self, state: bytes, scores: F32, *, device: str, dtype: str, places: int) -> Drawn:
        """Draw from the softmax of scores ``[B, V]`` (see :class:`tracer.analysis.draw.Replayer`)."""
        place = _device(device)
        chances = torch.nn.functional.softmax(_tensor(scores, place, dtype), dim=-1)
        if not bool(torch.isfinite(chances).all()):
            raise UnsupportedError("nothing can be drawn: the probabilities are not finite")
        generator = _generator(place, state)
        with _repeating("the draw"):
            tokens = torch.multinomial(chances, num_samples=1, generator=generator).squeeze(1)
        race = chances / torch.empty_like(chances).exponential_(1, generator=_generator(place, state))
        ratios, order = race.float().sort(dim=-1, descending=True, stable=True)
        return Drawn(
            tokens=tokens.cpu().numpy(),
            order=order[:, :places].cpu().numpy(),
            ratios=ratios[:, :places].cpu().numpy(),
            after=_state(generator),
        )

    def skip(self, state: bytes, shape: tuple[int, int], *, device: str, dtype: str) -> bytes:
        """The random state after one draw (see :class:`tracer.analysis.draw.Replayer`)."""
        place = _device(device)
        generator = _generator(place, state)
        torch.empty(shape, dtype=_dtype(dtype), device=place).exponential_(1, generator=generator)
        return _state(generator)


def make_processor(placed: PlacedProcessor, device: str = "cpu") -> Any:
    """The processor of transformers with the same settings.

    Args:
        placed: what the record says.
        device: where its own tensors are to be.

    Raises:
        UnsupportedError: it is a class of the user's, or its settings were not recorded.
    """
    if placed.name not in KINDS or type(placed.processor) is not KINDS[placed.name]:
        raise UnsupportedError(f"{placed.name} cannot be rebuilt from its record")
    settings = settings_of(placed.processor)
    make = _MAKERS.get(placed.name)
    if make is not None:
        return make(settings, device)
    return getattr(library, placed.name)(**settings)


def _counted(placed: PlacedProcessor, context: Context) -> I64:
    """The ids that a processor looks at: of a single row, as another release may not leave any out itself."""
    processor = placed.processor
    return processor.counted(context) if isinstance(processor, RepetitionPenalty) else context.history


def _with_device(name: str) -> Callable[[Mapping[str, Any], str], Any]:
    def make(settings: Mapping[str, Any], device: str) -> Any:
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
        return getattr(library, name)(**plain, device=device)

    return make


def _decay(settings: Mapping[str, Any], _device_name: str) -> Any:
    start, factor = settings["regulation_start"], settings["regulation_factor"]
    return library.ExponentialDecayLengthPenalty((start, factor), list(settings["eos_token_id"]), 0)


def _penalty(settings: Mapping[str, Any], _device_name: str) -> Any:
    return library.RepetitionPenaltyLogitsProcessor(settings["penalty"])


def _top_h(settings: Mapping[str, Any], _device_name: str) -> Any:
    made = library.TopHLogitsWarper(settings["top_h"], settings["filter_value"])
    made.top_n = settings["top_n"]
    return made


_MAKERS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    name: _with_device(name)
    for name in (
        "EtaLogitsWarper",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "SuppressTokensAtBeginLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
    )
}
_MAKERS["ExponentialDecayLengthPenalty"] = _decay
_MAKERS["RepetitionPenaltyLogitsProcessor"] = _penalty
_MAKERS["TopHLogitsWarper"] = _top_h
"""Classes whose constructors take others than their settings."""


@contextlib.contextmanager
def _repeating(what: str) -> Iterator[None]:
    """Say that something cannot be repeated where the library refuses what a trace holds.

    A trace may come from anyone, with settings and ids that no run had.
    """
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        raise UnsupportedError(f"{what} cannot be repeated with these values ({named(error)})") from None


def _device(name: str) -> torch.device:
    with _repeating(f"what was computed on {one_line(name)}"):
        device = torch.device(name)
    if device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_available()):
        return torch.device(device.type)
    raise UnsupportedError(
        f"what was computed on {one_line(name)} can be repeated only where there is such a device"
    )


def _dtype(name: str) -> torch.dtype:
    found = _DTYPES.get(name)
    if found is None:
        raise UnsupportedError(f"scores of dtype {one_line(name)} cannot be repeated")
    return found


def _tensor(values: F32, device: torch.device, dtype: str) -> torch.Tensor:
    return torch.tensor(values).to(device=device, dtype=_dtype(dtype))


def _array(scores: torch.Tensor) -> F32:
    array: F32 = scores.detach().float().cpu().numpy()
    return array.astype(np.float32, copy=False)


def _generator(device: torch.device, state: bytes) -> torch.Generator:
    generator = torch.Generator(device=device)
    try:
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    except RuntimeError as error:
        raise UnsupportedError(f"the recorded random state does not fit this torch: {error}") from None
    return generator


def _state(generator: torch.Generator) -> bytes:
    return generator.get_state().numpy().tobytes()

"""Watch ``generate()`` of one model instance while a trace is open."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from hooks.caught_step import CaughtStep
from hooks.loop import model_info
from hooks.loop.anchors import find_anchors
from hooks.loop.decoding_modes import UNTRACED_METHODS, untraced
from hooks.loop.processors import describe_criteria, describe_processors, watch_criteria, watch_processors
from hooks.loop.run_capture import CaptureOptions, RunCapture
from hooks.modules.module_watch import ModuleWatch
from hooks.patches import Patches
from hooks.probes.selection import TensorSelection
from tracer.clock import utc_now
from tracer.errors import UnsupportedError
from tracer.schema.run import CaptureSettings, RunEnd, RunHeader, RunStatus


class RunSink(Protocol):
    """Receives what is caught of a run. Its methods must be quick: they run inside the generation."""

    def begin(self, header: RunHeader, decoder: int) -> None:
        """A run starts; ``decoder`` is the module whose output are the hidden states."""

    def put(self, caught: CaughtStep) -> bool:
        """A step is over; returns whether the run shall end here."""

    def lost(self, fault: Exception) -> None:
        """A run could not be recorded at all; it goes on untraced."""

    def end(self, end: RunEnd) -> None:
        """The run is over; the writer adds texts and its own figures."""


class GenerationWatch:
    """Patches one model instance so that ``generate()`` is caught; everything is restored at the end.

    The real ``GenerationMixin._sample`` runs, unmodified: its arguments are replaced by stand-ins that record
    what passes through, and the model's own methods are watched. Classes are never touched, and nothing is
    patched before the context is entered.

    Args:
        model: a decoder-only model.
        sink: receives what is caught.
        capture: what to record.
        name: what reports call the model.
        seed: the seed that the caller set, for the header.
        prompt_texts: texts of the prompt rows, for the header.

    Raises:
        UnsupportedError: if the model is an encoder-decoder or cannot generate.

    Example:
        >>> with GenerationWatch(model, sink, CaptureSettings()):
        ...     model.generate(**inputs)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sink: RunSink,
        capture: CaptureSettings,
        *,
        name: str | None = None,
        seed: int | None = None,
        prompt_texts: tuple[str, ...] = (),
    ) -> None:
        require_decoder_only(model)
        self._model = model
        self._sink = sink
        self._capture = capture
        self._name = name
        self._seed = seed
        self._prompt_texts = prompt_texts
        self._patches = Patches()
        self._run: RunCapture | None = None

    def __enter__(self) -> GenerationWatch:
        try:
            self._install()
        except BaseException:
            self._patches.undo()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._patches.undo()

    @property
    def run(self) -> RunCapture | None:
        """The capture of the run in progress, None between runs."""
        return self._run

    def _install(self) -> None:
        model = self._model
        self._selection = TensorSelection(self._capture, model)
        self._statistics = self._capture.level != "shapes"
        self._modules = ModuleWatch(
            model, self._patches, statistics=self._statistics, save=self._selection.modules
        )
        self._probes = self._selection.probes(model, self._patches)
        self._patches.set(model, "forward", self._forward(model.forward))
        self._patches.set(model, "_sample", self._sample(model._sample))
        self._patches.set(
            model, "prepare_inputs_for_generation", self._prepare(model.prepare_inputs_for_generation)
        )
        self._patches.set(
            model,
            "_update_model_kwargs_for_generation",
            self._update(model._update_model_kwargs_for_generation),
        )
        for method, mode in UNTRACED_METHODS.items():
            if hasattr(model, method):
                self._patches.set(model, method, _refuse(mode))

    def _forward(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            run = self._run
            own = run is not None and run.on_forward_begin()
            outputs = forward(*args, **kwargs)
            if run is not None and own:
                run.on_forward_end(outputs)
            return outputs

        return watched

    def _prepare(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(prepare)
        def watched(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            inputs = prepare(input_ids, *args, **kwargs)
            if self._run is not None:
                self._run.on_prepared(input_ids, kwargs.get("attention_mask"), inputs, began)
            return inputs

        return watched

    def _update(self, update: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(update)
        def watched(*args: Any, **kwargs: Any) -> Any:
            updated = update(*args, **kwargs)
            if self._run is not None:
                self._run.on_updated(updated)
            return updated

        return watched

    def _sample(self, sample: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(sample)
        def watched(input_ids: torch.Tensor, **kwargs: Any) -> Any:
            if self._run is not None:  # a processor that generates on its own inside a traced run
                return sample(input_ids, **kwargs)
            return self._traced(sample, input_ids, kwargs)

        return watched

    def _traced(self, sample: Callable[..., Any], input_ids: torch.Tensor, kwargs: dict[str, Any]) -> Any:
        """Run ``_sample`` with stand-ins, and record its end."""
        began = time.perf_counter()
        try:
            run = self._begin(input_ids, kwargs)
        except Exception as fault:  # noqa: BLE001 - a fault in recording never breaks the generation
            self._sink.lost(fault)
            return sample(input_ids, **kwargs)
        status, error = RunStatus.COMPLETE, None
        self._run = run
        try:
            return sample(input_ids, **kwargs)
        except KeyboardInterrupt:
            status = RunStatus.INTERRUPTED
            raise
        except BaseException as fault:
            status, error = RunStatus.FAILED, f"{type(fault).__name__}: {fault}"
            raise
        finally:
            self._run = None
            run.interventions.undo()
            run.close_step(complete=status is RunStatus.COMPLETE)
            ids = run.input_ids if run.input_ids is not None else input_ids
            self._sink.end(
                RunEnd(
                    status=status,
                    error=error,
                    steps=run.steps,
                    seconds=time.perf_counter() - began,
                    sequences=tuple(tuple(row) for row in ids.tolist()),
                )
            )

    def _begin(self, input_ids: torch.Tensor, kwargs: dict[str, Any]) -> RunCapture:
        """Write the header, make the stand-ins, and put them into ``kwargs``."""
        config = kwargs["generation_config"]
        processors, warpers = kwargs["logits_processor"], kwargs["logits_warper"]
        described = describe_processors(processors, warpers if config.do_sample else None)
        self._sink.begin(self._header(input_ids, kwargs, described), self._decoder_index())
        run = RunCapture(
            self._modules,
            self._sink.put,
            CaptureOptions(
                stages=1 + len(described),
                candidates=self._capture.candidates,
                sampling=bool(config.do_sample),
                statistics=self._statistics,
                save_logits=self._selection.logits,
                save_kv=self._selection.kv,
            ),
            probes=self._probes,
            processors=[*processors, *((warpers or ()) if config.do_sample else ())],
        )
        watched = watch_processors(processors, warpers if config.do_sample else None, run)
        kwargs["logits_processor"], kwargs["logits_warper"] = watched
        kwargs["stopping_criteria"] = watch_criteria(kwargs["stopping_criteria"], run)
        return run

    def _header(self, input_ids: torch.Tensor, kwargs: dict[str, Any], processors: Any) -> RunHeader:
        config = kwargs["generation_config"]
        rows = model_info.prompt_rows(input_ids, kwargs.get("attention_mask"))
        if len(self._prompt_texts) == len(rows):
            rows = tuple(
                row.model_copy(update={"text": text})
                for row, text in zip(rows, self._prompt_texts, strict=True)
            )
        return RunHeader(
            model=model_info.describe_model(self._model, self._name),
            generation_config=model_info.settings_in_force(config),
            do_sample=bool(config.do_sample),
            max_length=config.max_length,
            seed=self._seed,
            prompt=rows,
            processors=processors,
            criteria=describe_criteria(kwargs["stopping_criteria"]),
            modules=self._modules.modules,
            anchors=find_anchors(self._model, do_sample=bool(config.do_sample)),
            capture=self._capture,
            versions=model_info.versions(),
            started_at=utc_now(),
        )

    def _decoder_index(self) -> int:
        decoder = self._model.base_model
        return next(i for i, module in enumerate(self._model.modules()) if module is decoder)


def require_decoder_only(model: PreTrainedModel) -> None:
    """Refuse models that are not traced.

    Raises:
        UnsupportedError: naming the model and what is needed.
    """
    name = type(model).__name__
    if not hasattr(model, "generate") or not hasattr(model, "config"):
        raise UnsupportedError(f"{name} has no generate(); a transformers *ForCausalLM model is needed.")
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedError(f"{name} is an encoder-decoder model; only decoder-only models are traced.")
    if not model.can_generate():
        raise UnsupportedError(f"{name} cannot generate text; a *ForCausalLM model is needed.")


def _refuse(mode: Any) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise untraced(mode)

    return refuse

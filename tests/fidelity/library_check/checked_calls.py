"""Every outermost ``generate()`` of the tests: traced, and compared with the same call untraced."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from transformers import GenerationMixin, PreTrainedModel

from .findings import Findings
from .outcomes import Outcome, RandomState, attributes, changed
from .traced_call import traced_call

_CHANGED_BY_CALL = ("streamer", "past_key_values", "cache_params", "state", "assistant_model")
"""Arguments that are not after a call what they were before."""

_DATA = {"builtins", "torch", "numpy", "transformers"}

_inside: ContextVar[bool] = ContextVar("inside_generate", default=False)


class CheckedCalls:
    """Checks the ``generate()`` calls of a process.

    Args:
        folder: where traces are kept while they are checked.
        findings: receives what is seen.

    Attributes:
        test: the test that runs.
        tracing: whether calls are traced.
    """

    def __init__(self, folder: Path, findings: Findings) -> None:
        self._folder = folder
        self._findings = findings
        self._keeps: defaultdict[str, set[str]] = defaultdict(set)  # by class: what untraced calls change
        self.test = ""
        self.tracing = True

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand in the place of ``GenerationMixin.generate``."""
        original = GenerationMixin.generate

        @functools.wraps(original)
        def generate(model: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
            untraced = functools.partial(original, model, *args, **kwargs)
            if _inside.get() or not self.tracing or self._is_encoder_decoder(model):
                return untraced()
            # A class with a generate() of its own has called this one, and is not to be called again.
            own = type(model).generate is not generate
            traced = untraced if own else functools.partial(model.generate, *args, **kwargs)
            token = _inside.set(True)
            try:
                return self._checked(model, untraced, traced)
            finally:
                _inside.reset(token)

        GenerationMixin.generate = generate
        try:
            yield
        finally:
            GenerationMixin.generate = original

    def _is_encoder_decoder(self, model: PreTrainedModel) -> bool:
        found = bool(getattr(model.config, "is_encoder_decoder", False))
        self._findings.encoder_decoders += found
        return found

    def _checked(
        self, model: PreTrainedModel, untraced: functools.partial[Any], traced: functools.partial[Any]
    ) -> Any:
        name = type(model).__name__
        tally = self._findings.classes[name]
        tally.calls += 1
        state = RandomState.now()
        expected = None
        if _can_repeat(untraced):
            # First, so that what a model itself keeps of a call is known before the traced one.
            before = attributes(model)
            expected = Outcome.of(untraced)
            self._keeps[name] |= changed(before, attributes(model))
            state.restore()
        call = traced_call(model, traced, self._folder / "run.trace", self._keeps[name])
        for alarm in call.alarms:
            self._findings.add("alarm", name, self.test, alarm)
        if call.refusal is not None:
            tally.refused[str(call.refusal).partition(" is not traced")[0]] += 1
            return self._of_refused(untraced, expected, state)
        assert call.outcome is not None
        tally.traced += 1
        tally.steps += call.steps
        tally.left_out.update(call.left_out)
        if expected is not None:
            tally.compared += 1
            for difference in call.outcome.differs(expected):
                self._findings.add("difference", name, self.test, difference)
        return call.outcome.given()

    @staticmethod
    def _of_refused(untraced: Callable[[], Any], expected: Outcome | None, state: RandomState) -> Any:
        if expected is None:
            state.restore()
            return untraced()
        expected.random.restore()
        return expected.given()


def _can_repeat(call: functools.partial[Any]) -> bool:
    """Whether a call leaves its arguments as they are, as far as that can be seen."""
    if any(call.keywords.get(name) is not None for name in _CHANGED_BY_CALL):
        return False
    return all(_is_stateless(value) for value in (*call.args[1:], *call.keywords.values()))


def _is_stateless(value: Any) -> bool:
    """Whether an argument is data or an object of the library's own; a test's own may count its calls."""
    if isinstance(value, Mapping):
        return _is_stateless([*value.values()])
    if isinstance(value, (list, tuple)):
        return all(map(_is_stateless, value))
    return type(value).__module__.split(".")[0] in _DATA and not isinstance(value, (FunctionType, MethodType))

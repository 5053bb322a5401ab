"""A decoding loop as data: its stops in order, and the statement that each of them stands at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tracer.schema.run import Phase, StopName

FORWARD = "forward"
"""As the function of a statement: the ``forward`` of the traced model's own class."""

Choice = Literal["sampling", "greedy"]
"""How a loop chooses, where a statement belongs to one way only."""


@dataclass(frozen=True)
class Statement:
    """A statement of the library, at whose line a stop is.

    Attributes:
        stop: the stop.
        start: how the stripped source line begins.
        function: the method of ``GenerationMixin`` that holds it, or :data:`FORWARD`.
        choice: the way of choosing that it belongs to; None for both.
        phase: the phase of a run that it belongs to; None for both.
    """

    stop: StopName
    start: str
    function: str = "_sample"
    choice: Choice | None = None
    phase: Phase | None = None

    def runs(self, *, do_sample: bool) -> bool:
        """Whether a run comes to it.

        Args:
            do_sample: whether the run draws its tokens.
        """
        return self.choice in (None, "sampling" if do_sample else "greedy")


@dataclass(frozen=True)
class Loop:
    """A decoding loop.

    Attributes:
        method: the method of ``GenerationMixin`` that is the loop.
        statements: its statements, in the order in which a step comes to them.
    """

    method: str
    statements: tuple[Statement, ...]

    @property
    def stops(self) -> tuple[StopName, ...]:
        """The stops of a run in order, the run header first; a stop's place is its number."""
        found = [*dict.fromkeys(statement.stop for statement in self.statements)]
        # Module calls have no line: they are within the forward pass, whose result is the next stop.
        found.insert(found.index("forward-result"), "layers")
        return ("run-header", *found)


SAMPLE_4_44 = Loop(
    "_sample",
    (
        Statement("model-call", "outputs = self(**model_inputs, return_dict=True)"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("next-logits", "next_token_logits = outputs.logits[:, -1, :]"),
        Statement("processors", "next_token_scores = logits_processor(input_ids, next_token_logits)"),
        Statement("warpers", "next_token_scores = logits_warper(input_ids, next_token_scores)"),
        Statement("softmax", "probs = nn.functional.softmax(next_token_scores, dim=-1)"),
        Statement("choice", "next_tokens = torch.multinomial(probs, num_samples=1)", choice="sampling"),
        Statement("choice", "next_tokens = torch.argmax(next_token_scores, dim=-1)", choice="greedy"),
        Statement("append", "input_ids = torch.cat([input_ids, next_tokens[:, None]], dim=-1)"),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("stopping", "unfinished_sequences = unfinished_sequences & ~stopping_criteria("),
    ),
)
"""``_sample`` of 4.44: processors and warpers are two lists, and arguments are updated behind the append."""

_PREFILL_4_57 = Statement("model-call", "outputs = self(**model_inputs, return_dict=True)", phase="prefill")

SAMPLE_4_57 = Loop(
    "_sample",
    (
        _PREFILL_4_57,
        Statement("model-call", "outputs = model_forward(**model_inputs, return_dict=True)", phase="decode"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("next-logits", "next_token_logits = outputs.logits[:, -1"),
        *(
            statement
            for statement in SAMPLE_4_44.statements
            if statement.stop in ("processors", "softmax", "choice", "append", "stopping")
        ),
    ),
)
"""``_sample`` since 4.45: one list of processors, and arguments are updated right behind the forward pass;
since 4.48 decode steps call the model on a line of their own."""

SAMPLE_5 = Loop(
    "_sample",
    tuple(
        replace(statement, start="return self(**model_inputs, return_dict=True)", function="_prefill")
        if statement == _PREFILL_4_57
        else statement
        for statement in SAMPLE_4_57.statements
    ),
)
"""``_sample`` of 5.x, whose prefill is in a method of its own."""

"""Why two runs diverge: from what differs first to a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracer.analysis.diff.report import (
    HeaderAspect,
    HeaderDifference,
    NumberDifference,
    Reason,
    RowPair,
    TokenDifference,
)

_ORDERS: tuple[tuple[Reason, tuple[HeaderAspect, ...]], ...] = (
    ("cache", ("cache",)),
    ("padding", ("padding",)),
    ("numerics", ("dtype", "attention", "device", "batch")),
)
_LIBRARIES = ("torch", "transformers", "accelerate", "cuda")

Explained = tuple[Reason, str]
"""A reason and a sentence about it."""


@dataclass(frozen=True)
class Evidence:
    """What a comparison found, from which the reason follows.

    Attributes:
        differences: differences between the headers.
        pairs: rows compared.
        token: first differing token.
        first: first differing number.
        beyond: first number that the dtypes do not explain.
        changed_step: first step that the user changed in either run, None if none.
        lengths: steps of both runs.
        sampling: whether both runs drew their tokens.
        tolerance: the user's own tolerance, None for what the dtypes explain.
    """

    differences: tuple[HeaderDifference, ...]
    pairs: tuple[RowPair, ...]
    token: TokenDifference | None
    first: NumberDifference | None
    beyond: NumberDifference | None
    changed_step: int | None
    lengths: tuple[int, int]
    sampling: bool
    tolerance: float | None = None

    def of(self, *kinds: HeaderAspect) -> list[HeaderDifference]:
        """Differences of some kinds."""
        return [difference for difference in self.differences if difference.kind in kinds]

    @property
    def settings(self) -> list[HeaderDifference]:
        """Differing settings that affect the choice of a token."""
        sampling = [difference for difference in self.of("settings") if difference.name == "do_sample"]
        return [*sampling, *self.of("processors")]

    @property
    def order(self) -> tuple[Reason, list[HeaderDifference]] | None:
        """Differences that make the same computation run in another order or precision."""
        for reason, kinds in _ORDERS:
            found = self.of(*kinds)
            if found:
                return reason, found
        in_parts = [difference for difference in self.of("settings") if difference.name == "low_memory"]
        libraries = [difference for difference in self.of("versions") if difference.name in _LIBRARIES]
        found = [*in_parts, *libraries]
        return ("numerics", found) if found else None

    @property
    def first_step(self) -> int:
        """Step of the first difference that matters."""
        steps = [each.step for each in (self.token, self.beyond) if each is not None]
        return min(steps, default=0)


def find_reason(evidence: Evidence) -> Explained:
    """The reason why two runs differ, or in which sense they do not, and a sentence about it."""
    for explained in (_by_prompt, _by_loop, _by_intervention, _by_number, _by_token, _by_length):
        found = explained(evidence)
        if found is not None:
            return found
    if evidence.first is None:
        return "identical", "Every number that both runs recorded is the same."
    order = evidence.order
    because = f"; these differ: {_listed(order[1])}." if order else "."
    return "rounding", f"The same tokens; numbers differ by no more than their dtypes explain{because}"


def _by_prompt(evidence: Evidence) -> Explained | None:
    if evidence.pairs and all(pair.same_prompt for pair in evidence.pairs):
        return None
    return "prompt", "The runs do not start from the same prompt."


def _by_loop(evidence: Evidence) -> Explained | None:
    """The runs ran other loops, or the same one on other layers."""
    loops = evidence.of("loop")
    if loops:
        return (
            "loop",
            f"The decoding loops differ ({loops[0].a} / {loops[0].b}): their scores are not compared.",
        )
    layers = [each for each in evidence.of("settings") if each.name == "dola_layers"]
    if not layers or not evidence.first_step:
        return None
    return "settings", f"Other layers are contrasted with the last one ({_listed(layers)})."


def _by_intervention(evidence: Evidence) -> Explained | None:
    """The user changed a step no later than the first difference that matters."""
    changed, first = evidence.changed_step, evidence.first_step
    if changed is None or (first and changed > first):
        return None
    return "intervention", f"The user changed step {changed} of one of the runs."


def _by_number(evidence: Evidence) -> Explained | None:
    """A number that rounding does not explain comes no later than the first differing token."""
    beyond, token = evidence.beyond, evidence.token
    if beyond is None or (token is not None and beyond.step > token.step):
        return None
    where = f"{beyond.quantity} of {beyond.module}" if beyond.module else beyond.quantity
    what = f"In step {beyond.step} the {where} differs by {beyond.size:.3g}"
    order = evidence.order
    if beyond.stop in ("processors", "warpers"):
        return _by_processor(evidence, what)
    if order is not None:
        return order[0], _more_than_explained(evidence, what, order[1])
    return "weights", f"{what}, and nothing but the model itself can be the cause."


def _by_processor(evidence: Evidence, what: str) -> Explained:
    """A processor gave another score although its input agrees."""
    if evidence.settings:
        return "settings", f"{what}: the settings differ ({_listed(evidence.settings)})."
    order = evidence.order
    if order is None:
        return "unknown", f"{what}, though the recorded settings are the same."
    if order[0] == "padding":
        return "padding", f"{what}: a processor looks back on the padding too ({_listed(order[1])})."
    return order[0], _more_than_explained(evidence, what, order[1])


def _more_than_explained(evidence: Evidence, what: str, differing: Sequence[HeaderDifference]) -> str:
    limit = "rounding explains" if evidence.tolerance is None else "the tolerance allows"
    return f"{what}, more than {limit}, and these differ: {_listed(differing)}."


def _by_token(evidence: Evidence) -> Explained | None:
    """A token differs although no number before it does by more than rounding."""
    token = evidence.token
    if token is None:
        return None
    what = f"Step {token.step} chose another token in run B than in run A"
    if evidence.settings:
        return "settings", f"{what}: the settings differ ({_listed(evidence.settings)})."
    if evidence.sampling and token.same_draw is False:
        batch = evidence.of("batch") and not evidence.of("seed")
        why = ", as a batch of another size uses up others" if batch else ""
        return "draw", f"{what}: other random numbers were drawn{why}; up to there the numbers agree."
    if evidence.first is not None:
        return _by_rounding(evidence, token, what)
    if evidence.sampling and token.same_draw is None:
        return "draw", f"{what}; the random state of a run is missing, and all numbers agree."
    return "unknown", f"{what}, though all recorded numbers agree."


def _by_rounding(evidence: Evidence, token: TokenDifference, what: str) -> Explained:
    near = f" The scores of the two tokens were {token.gap_a:.3g} apart." if token.gap_a is not None else ""
    order = evidence.order
    if order is not None:
        return order[0], f"{what}: rounding decided, for these differ: {_listed(order[1])}.{near}"
    return "numerics", f"{what}: rounding decided, though nothing that was recorded explains it.{near}"


def _by_length(evidence: Evidence) -> Explained | None:
    ours, theirs = evidence.lengths
    if ours == theirs:
        return None
    return "length", f"The same tokens, but run A has {ours} steps and run B {theirs}."


def _listed(differences: Sequence[HeaderDifference]) -> str:
    return ", ".join(dict.fromkeys(_in_words(difference) for difference in differences))


def _in_words(difference: HeaderDifference) -> str:
    if len(difference.a) + len(difference.b) > 80:
        return difference.name
    name = (
        difference.name
        if difference.name.startswith(difference.kind)
        else f"{difference.kind} {difference.name}"
    )
    return f"{name} {difference.a} / {difference.b}"

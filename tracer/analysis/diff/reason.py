"""Why two runs part: from what differs first to a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracer.analysis.diff.report import Fact, FactKind, NumberDifference, Reason, RowPair, TokenDifference

_ORDERS: tuple[tuple[Reason, tuple[FactKind, ...]], ...] = (
    ("cache", ("cache",)),
    ("padding", ("padding",)),
    ("numerics", ("dtype", "attention", "device", "batch")),
)
_LIBRARIES = ("torch", "transformers", "accelerate", "cuda")


@dataclass(frozen=True)
class Evidence:
    """What speaks for a reason.

    Attributes:
        facts: what differs before the first step.
        pairs: rows compared.
        token: first differing token.
        first: first differing number.
        beyond: first number that the dtypes do not explain.
        changed_step: first step that the user changed in either run, None if none.
        lengths: steps of both runs.
        sampling: whether both runs drew their tokens.
        tolerance: the user's own tolerance, None for what the dtypes explain.
    """

    facts: tuple[Fact, ...]
    pairs: tuple[RowPair, ...]
    token: TokenDifference | None
    first: NumberDifference | None
    beyond: NumberDifference | None
    changed_step: int | None
    lengths: tuple[int, int]
    sampling: bool
    tolerance: float | None = None

    def of(self, *kinds: FactKind) -> list[Fact]:
        """Differing facts of some kinds."""
        return [fact for fact in self.facts if fact.kind in kinds]

    @property
    def settings(self) -> list[Fact]:
        """Differing settings that have a say in the choice of a token."""
        sampling = [fact for fact in self.of("settings") if fact.name == "do_sample"]
        return [*sampling, *self.of("processors")]

    @property
    def order(self) -> tuple[Reason, list[Fact]] | None:
        """What makes the same computation run in another order or precision."""
        for reason, kinds in _ORDERS:
            found = self.of(*kinds)
            if found:
                return reason, found
        libraries = [fact for fact in self.of("versions") if fact.name in _LIBRARIES]
        return ("numerics", libraries) if libraries else None

    @property
    def first_step(self) -> int:
        """Step of the first difference that matters."""
        steps = [each.step for each in (self.token, self.beyond) if each is not None]
        return min(steps, default=0)


def find_reason(evidence: Evidence) -> tuple[Reason, str]:
    """The reason and a sentence about it."""
    if not all(pair.same_prompt for pair in evidence.pairs) or not evidence.pairs:
        return "prompt", "The runs do not start from the same prompt."
    changed, first = evidence.changed_step, evidence.first_step
    if changed is not None and (not first or changed <= first):
        return "intervention", f"The user changed step {changed} of one of the runs."
    if evidence.beyond is not None and (
        evidence.token is None or evidence.beyond.step <= evidence.token.step
    ):
        return _numbers(evidence, evidence.beyond)
    if evidence.token is not None:
        return _token(evidence, evidence.token)
    if evidence.lengths[0] != evidence.lengths[1]:
        ours, theirs = evidence.lengths
        return "length", f"The same tokens, but run A has {ours} steps and run B {theirs}."
    if evidence.first is None:
        return "identical", "Every number that both runs recorded is the same."
    return "rounding", "The same tokens; numbers differ by no more than their dtypes explain" + _because(
        evidence
    )


def _numbers(evidence: Evidence, beyond: NumberDifference) -> tuple[Reason, str]:
    where = f"{beyond.quantity} of {beyond.module}" if beyond.module else beyond.quantity
    what = f"In step {beyond.step} the {where} differs by {beyond.size:.3g}"
    if beyond.stop in ("processors", "warpers") and evidence.settings:
        return "settings", f"{what}: the settings differ ({_listed(evidence.settings)})."
    order = evidence.order
    if order is not None and order[0] == "padding" and beyond.stop in ("processors", "warpers"):
        return "padding", f"{what}: a processor looks back on the padding too ({_listed(order[1])})."
    if order is not None:
        limit = "rounding explains" if evidence.tolerance is None else "the tolerance allows"
        return order[0], f"{what}, more than {limit}, and these differ: {_listed(order[1])}."
    if beyond.stop in ("processors", "warpers"):
        return "unknown", f"{what}, though the recorded settings are the same."
    return "weights", f"{what}, and nothing but the model itself can be the cause."


def _token(evidence: Evidence, token: TokenDifference) -> tuple[Reason, str]:
    what = f"Step {token.step} chose another token in run B than in run A"
    if evidence.settings:
        return "settings", f"{what}: the settings differ ({_listed(evidence.settings)})."
    if evidence.sampling and token.same_draw is False:
        batch = evidence.of("batch") and not evidence.of("seed")
        why = ", as a batch of another size uses up others" if batch else ""
        return "draw", f"{what}: other random numbers were drawn{why}; up to there the numbers agree."
    near = f" The scores of the two tokens were {token.gap_a:.3g} apart." if token.gap_a is not None else ""
    order = evidence.order
    if order is not None and evidence.first is not None:
        return order[0], f"{what}: rounding decided, for these differ: {_listed(order[1])}.{near}"
    if evidence.first is not None:
        return "numerics", f"{what}: rounding decided, though nothing that was recorded explains it.{near}"
    if evidence.sampling and token.same_draw is None:
        return "draw", f"{what}; the random state of a run is missing, and all numbers agree."
    return "unknown", f"{what}, though all recorded numbers agree."


def _because(evidence: Evidence) -> str:
    order = evidence.order
    return f"; these differ: {_listed(order[1])}." if order else "."


def _listed(facts: Sequence[Fact]) -> str:
    return ", ".join(dict.fromkeys(_fact(fact) for fact in facts))


def _fact(fact: Fact) -> str:
    if len(fact.a) + len(fact.b) > 80:
        return fact.name
    name = fact.name if fact.name.startswith(fact.kind) else f"{fact.kind} {fact.name}"
    return f"{name} {fact.a} / {fact.b}"

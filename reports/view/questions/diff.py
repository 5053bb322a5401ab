"""Two runs compared, put into words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.view import figures
from reports.view.text import plain
from reports.view.tokens import TokenView, token_view
from tracer.analysis.diff.report import (
    DiffReport,
    HeaderDifference,
    LogitDistance,
    NumberDifference,
    Reason,
    RowPair,
    TokenDifference,
)
from tracer.schema.run import TokenText

HEADLINES: dict[Reason, str] = {
    "identical": "The same, to the last bit",
    "rounding": "The same, apart from rounding",
    "prompt": "They differ: other prompts",
    "loop": "They differ: other decoding loops",
    "intervention": "They differ: a step was changed by the user",
    "settings": "They differ: other generation settings",
    "draw": "They differ: another draw",
    "cache": "They differ: the KV cache",
    "padding": "They differ: padding",
    "numerics": "They differ: numerics",
    "weights": "They differ: the model itself",
    "length": "They differ: one run is longer",
    "unknown": "They differ, and the recordings do not say why",
}

_WIDEST_VALUE = 60


@dataclass(frozen=True)
class DiffFact:
    """Something in which the runs differ before their first step.

    Attributes:
        name: what.
        a: its value in run A.
        b: its value in run B.
    """

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class DiffToken:
    """The first differing token of two rows.

    Attributes:
        step: number of the step.
        rows: which rows.
        a: token of run A.
        b: token of run B.
        probability_a: of A's token in A.
        probability_b: of B's token in B.
        gaps: how far each run was from choosing as the other did, in words.
        draw: whether the same random numbers were drawn, in words.
    """

    step: int
    rows: str
    a: TokenView
    b: TokenView
    probability_a: str
    probability_b: str
    gaps: str
    draw: str


@dataclass(frozen=True)
class DiffNumber:
    """A number that differs.

    Attributes:
        title: why it is shown.
        where: step, stop and module.
        quantity: what differs.
        a: in run A.
        b: in run B.
        size: the difference, and in relation to the size of the values.
        verdict: whether rounding explains it.
        beyond: whether it does not.
    """

    title: str
    where: str
    quantity: str
    a: str
    b: str
    size: str
    verdict: str
    beyond: bool


@dataclass(frozen=True)
class DiffLogits:
    """Distance of the raw logits in one step.

    Attributes:
        step: number of the step.
        rows: which rows.
        divergence: Kullback-Leibler divergence in nats.
        largest: largest difference of two logits.
    """

    step: int
    rows: str
    divergence: str
    largest: str


@dataclass(frozen=True)
class DiffView:
    """Two runs compared.

    Attributes:
        names: what the runs are called.
        same: whether they count as the same.
        headline: the result in a few words.
        explanation: in a sentence or two.
        steps: how far they were compared.
        facts: what differs before the first step.
        tokens: first differing tokens.
        numbers: the numbers that tell where the difference begins.
        logits: distance of the raw logits per step.
        notes: caveats.
    """

    names: tuple[str, str]
    same: bool
    headline: str
    explanation: str
    steps: str
    facts: tuple[DiffFact, ...]
    tokens: tuple[DiffToken, ...]
    numbers: tuple[DiffNumber, ...]
    logits: tuple[DiffLogits, ...]
    notes: tuple[str, ...]


def diff_view(report: DiffReport, names: tuple[str, str], tokens: Mapping[int, TokenText]) -> DiffView:
    """Put a comparison into words.

    Args:
        report: the comparison.
        names: what to call the runs.
        tokens: texts of both recordings.
    """
    several = len(report.rows) > 1
    return DiffView(
        names=(plain(names[0]), plain(names[1])),
        same=report.same,
        headline=HEADLINES[report.reason],
        explanation=plain(report.explanation),
        steps=_steps(report),
        facts=tuple(_fact(fact) for fact in report.facts),
        tokens=tuple(_token(each, tokens) for each in report.tokens),
        numbers=_numbers(report),
        logits=tuple(_logits(each, several=several) for each in report.logits),
        notes=tuple(plain(note) for note in report.notes),
    )


def _steps(report: DiffReport) -> str:
    rows = figures.plural(len(report.rows), "row")
    if not report.steps:
        return "No step was compared."
    lengths = figures.count(report.steps_a)
    if report.steps_a != report.steps_b:
        lengths = f"{lengths} in A and {figures.count(report.steps_b)} in B"
    return f"{rows} compared in {figures.plural(report.steps, 'step')} of {lengths}."


def _fact(fact: HeaderDifference) -> DiffFact:
    name = fact.name if fact.name.startswith(fact.kind) else f"{fact.kind} {fact.name}"
    return DiffFact(plain(name), plain(fact.a, _WIDEST_VALUE), plain(fact.b, _WIDEST_VALUE))


def rows_text(pair: RowPair) -> str:
    """Which rows are compared.

    Args:
        pair: the rows.
    """
    return f"row {pair.a}" if pair.a == pair.b else f"row {pair.a} of A, {pair.b} of B"


def _token(each: TokenDifference, tokens: Mapping[int, TokenText]) -> DiffToken:
    draws = {None: "", True: "Both drew the same random numbers.", False: "Other random numbers were drawn."}
    return DiffToken(
        step=each.step,
        rows=rows_text(each.rows),
        a=token_view(each.token_a, tokens),
        b=token_view(each.token_b, tokens),
        probability_a=figures.probability(each.probability_a),
        probability_b=figures.probability(each.probability_b),
        gaps=" ".join(
            _gap(name, gap) for name, gap in (("A", each.gap_a), ("B", each.gap_b)) if gap is not None
        ),
        draw=draws[each.same_draw],
    )


def _gap(name: str, gap: float) -> str:
    if math.isinf(gap):
        return f"Run {name} had removed the other's token."
    side = "above" if gap >= 0 else "below"
    return f"Run {name} scored its own {figures.statistic(abs(gap))} {side} the other's."


def _numbers(report: DiffReport) -> tuple[DiffNumber, ...]:
    first, beyond = report.first, report.first_beyond
    found = []
    if first is not None and first is not beyond:
        found.append(_number("the first number that differs", first, fixed=report.tolerance is not None))
    if beyond is not None:
        unless = "rounding does not explain" if report.tolerance is None else "is beyond the tolerance"
        found.append(
            _number(f"the first difference that {unless}", beyond, fixed=report.tolerance is not None)
        )
    return tuple(found)


def _number(title: str, found: NumberDifference, *, fixed: bool) -> DiffNumber:
    where = f"step {found.step}, stop {found.stop}"
    if found.module is not None:
        where += f", module {plain(found.module) or 'the model itself'}"
    if found.rows is not None:
        where += f", {rows_text(found.rows)}"
    relation = f"{found.relative:.2g} of the size of the values"
    return DiffNumber(
        title=title,
        where=where,
        quantity=plain(found.quantity),
        a=f"{found.a:.9g}",
        b=f"{found.b:.9g}",
        size=f"{found.size:.3g}, {relation}",
        verdict=_allowed(found, fixed=fixed),
        beyond=found.beyond,
    )


def _allowed(found: NumberDifference, *, fixed: bool) -> str:
    if math.isinf(found.allowed):
        return "which rounding at the line explains"
    if fixed:
        return f"the tolerance is {found.allowed:.2g}"
    return f"rounding explains {'at most ' if found.beyond else ''}{found.allowed:.2g}"


def _logits(each: LogitDistance, *, several: bool) -> DiffLogits:
    return DiffLogits(
        step=each.step,
        rows=rows_text(each.rows) if several else "",
        divergence=f"{each.divergence:.3g}",
        largest=f"{each.largest:.3g}",
    )


def both_texts(*tables: Mapping[int, TokenText], ids: Sequence[int]) -> dict[int, TokenText]:
    """Texts of some tokens, from whichever recording knows them.

    Args:
        tables: texts of the recordings.
        ids: the tokens.
    """
    return {token: table[token] for table in reversed(tables) for token in ids if token in table}

"""What-if answers in words: a recorded run under changed settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reports.view import figures
from reports.view.glossary import settings_text
from reports.view.text import plain
from reports.view.tokens import TokenView, token_view
from tracer.analysis.whatif.report import FirstDifference, WhatIfReport, WhatIfStep
from tracer.schema.run import TokenText

EXACT = "Exact: candidates and probabilities are what transformers gives."
ESTIMATE = (
    "An estimate: tokens that were not recorded affect it. `--capture tensors --save logits` makes it exact."
)


@dataclass(frozen=True)
class WhatIfRow:
    """One row of one step.

    Attributes:
        step: number of the step.
        row: row of the batch.
        recorded: the recorded token.
        outcome: ``same``, or why the token is not known.
        token: the other token, where it differs.
        candidates: how many were left, and would be.
        entropy: the same of the entropy in bits.
        probability: of the recorded token then.
        estimate: whether the figures are estimates.
    """

    step: int
    row: int
    recorded: TokenView
    outcome: str
    token: TokenView | None
    candidates: str
    entropy: str
    probability: str
    estimate: bool


@dataclass(frozen=True)
class WhatIfView:
    """A run under changed settings.

    Attributes:
        title: the changed settings.
        processors: those that ``generate()`` would have used.
        mode: how a token would be chosen.
        certainty: exact or an estimate.
        exact: which of both.
        first: where each row's text would first be another.
        rows: the steps asked for.
        hidden: how many rows of steps are not among them.
        notes: caveats.
    """

    title: str
    processors: tuple[str, ...]
    mode: str
    certainty: str
    exact: bool
    first: tuple[str, ...]
    rows: tuple[WhatIfRow, ...]
    hidden: int
    notes: tuple[str, ...]


def whatif_view(
    report: WhatIfReport, tokens: Mapping[int, TokenText], *, steps: Callable[[int], bool]
) -> WhatIfView:
    """Put a report into words.

    Args:
        report: the report.
        tokens: texts of the recording.
        steps: which steps to list; those where a text would first be another are listed anyway.
    """
    turning = {(first.row, first.step) for first in report.first}
    listed = [each for each in report.steps if steps(each.step) or (each.row, each.step) in turning]
    return WhatIfView(
        title=setting_names(report),
        processors=tuple(
            "  ".join((plain(info.class_name), *settings_text(info.settings))) for info in report.processors
        ),
        mode="Tokens are drawn" if report.sampling else "The highest score is taken",
        certainty=EXACT if report.exact else ESTIMATE,
        exact=report.exact,
        first=tuple(_first(first, tokens) for first in report.first),
        rows=tuple(_row(each, tokens) for each in listed),
        hidden=len(report.steps) - len(listed),
        notes=(*map(plain, report.notes), *_unknown(report)),
    )


def _unknown(report: WhatIfReport) -> list[str]:
    """Why tokens are not known, each reason once."""
    found = [each for each in report.steps if each.token is None and not each.diverged]
    reasons = dict.fromkeys(each.reason for each in found if each.reason)
    return [f"Tokens are not known where {plain(reason)}." for reason in reasons]


def setting_names(report: WhatIfReport) -> str:
    """The changed settings as ``name=value``."""
    return "  ".join(f"{name}={_value(value)}" for name, value in report.settings.changes.items())


def _value(value: float | bool) -> str:
    return str(value) if isinstance(value, bool) else f"{value:g}"


def _first(first: FirstDifference, tokens: Mapping[int, TokenText]) -> str:
    start = f"Row {first.row}: "
    if first.step is None:
        if first.unknown_from is not None:
            return f"{start}no difference before step {first.unknown_from}, whose token is not known."
        return start + ("the same tokens." if first.certain else "the same tokens, as far as can be told.")
    recorded, other = (_named(token, tokens) for token in (first.recorded, first.token))
    doubt = "" if first.certain else " (an estimate)"
    if first.unknown_from is not None:
        doubt = f" (or earlier: the token of step {first.unknown_from} is not known)"
    return (
        f"{start}first another token in step {first.step}{doubt}: {other} instead of {recorded}. "
        "After it the text would be another; the recording cannot tell which."
    )


def _named(token: int | None, tokens: Mapping[int, TokenText]) -> str:
    found = token_view(-1 if token is None else token, tokens)
    return f"{found.label} ({found.id})" if found.label else f"token {found.id}"


def _row(each: WhatIfStep, tokens: Mapping[int, TokenText]) -> WhatIfRow:
    other = None if each.token is None or each.same else token_view(each.token, tokens)
    return WhatIfRow(
        step=each.step,
        row=each.row,
        recorded=token_view(each.recorded, tokens),
        outcome="" if other else _outcome(each),
        token=other,
        candidates=_both(
            figures.count(each.recorded_kept),
            f"{'' if each.complete else '≥ '}{figures.count(each.kept)}",
        ),
        entropy=_both(
            _entropy(each.recorded_entropy), f"{'' if each.exact else '~'}{_entropy(each.entropy)}"
        ),
        probability=figures.probability(each.probability),
        estimate=not each.exact,
    )


def _outcome(each: WhatIfStep) -> str:
    if each.diverged:
        return "another text"
    if each.token is None:
        return "not known"
    return "same" if each.certain else "same (estimate)"


def _entropy(value: float) -> str:
    # Of a single candidate it is -0.0.
    return f"{round(value, 4) + 0.0:.4f}"


def _both(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


@dataclass(frozen=True)
class GridView:
    """Several settings side by side.

    Attributes:
        names: the settings that vary.
        rows: one a combination.
        notes: caveats.
    """

    names: tuple[str, ...]
    rows: tuple[GridRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class GridRow:
    """One combination of settings.

    Attributes:
        values: of the settings that vary.
        candidates: left on average.
        entropy: on average, in bits.
        first: step and tokens of the first difference.
        exact: False for an estimate.
    """

    values: tuple[str, ...]
    candidates: str
    entropy: str
    first: str
    exact: bool


def grid_view(
    reports: Sequence[WhatIfReport], names: Sequence[str], tokens: Mapping[int, TokenText]
) -> GridView:
    """Put several reports side by side.

    Args:
        reports: one a combination.
        names: the settings that vary.
        tokens: texts of the recording.
    """
    notes = dict.fromkeys(plain(note) for report in reports for note in report.notes)
    return GridView(
        names=tuple(names),
        rows=tuple(_grid_row(report, names, tokens) for report in reports),
        notes=tuple(notes),
    )


def _grid_row(report: WhatIfReport, names: Sequence[str], tokens: Mapping[int, TokenText]) -> GridRow:
    found = [first for first in report.first if first.step is not None]
    earliest = min(found, key=lambda first: first.step or 0, default=None)
    unknown = min((first.unknown_from for first in report.first if first.unknown_from), default=None)
    if earliest is not None:
        row = f", row {earliest.row}" if len(report.first) > 1 else ""
        other, recorded = _named(earliest.token, tokens), _named(earliest.recorded, tokens)
        where = f"step {earliest.step}{row}: {other}, not {recorded}"
    else:
        where = "none" if unknown is None else f"not known from step {unknown}"
    return GridRow(
        values=tuple(_value(report.settings.changes[name]) for name in names),
        candidates=f"{report.mean_kept:,.1f}",
        entropy=_entropy(report.mean_entropy),
        first=where,
        exact=report.exact,
    )

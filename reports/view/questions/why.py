"""Why a token was chosen or not, in words: its scores through the pipeline of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reports.view import figures
from reports.view.glossary import settings_text
from reports.view.stops.beams import CONTINUATION_ENDED, FORCED_CUT
from reports.view.text import plain
from reports.view.tokens import TokenView, token_view
from tracer.analysis.draw import NearMisses
from tracer.analysis.processors.processor import Cutoff
from tracer.analysis.ranking import winning_alphas, winning_top_k
from tracer.analysis.why.report import Change, Goal, Rank, TokenStage, Verdict, WhyReport
from tracer.library.first_scores import FIRST_SCORES
from tracer.schema.beams import Continuation
from tracer.schema.columns import NO_TOKEN
from tracer.schema.ranking import RankedCandidate, RowRanking
from tracer.schema.run import TokenText

GOALS: dict[Goal, str] = {
    "kept": "what would have kept it, one setting changed at a time",
    "greedy": "what would have made it the highest score, one setting changed at a time",
}


@dataclass(frozen=True)
class WhyStage:
    """The token's score after one processor.

    Attributes:
        number: the processor's number; None for the raw logits.
        name: the processor's class, or what the scores before the first one are called.
        settings: its settings as ``name=value``.
        score: the token's score after it, in words where there is no number.
        rank: its place, empty once removed.
        left: tokens of the row that are left.
        remark: on which side of a filter's cutoff the token was.
        removed: whether this stage removed it.
    """

    number: int | None
    name: str
    settings: tuple[str, ...]
    score: str
    rank: str
    left: str
    remark: str
    removed: bool


@dataclass(frozen=True)
class WhyChange:
    """One setting that would have reached a goal.

    Attributes:
        setting: its name.
        now: its value in force.
        needed: the nearest value that reaches the goal.
        probability: the token's probability then; empty if it is not known.
        exact: False for an estimate.
    """

    setting: str
    now: str
    needed: str
    probability: str
    exact: bool


@dataclass(frozen=True)
class WhyGoal:
    """What reaches one goal, and what does not.

    Attributes:
        title: the goal.
        changes: settings that reach it.
        hopeless: why the others do not, a reason with its settings.
    """

    title: str
    changes: tuple[WhyChange, ...]
    hopeless: tuple[str, ...]


@dataclass(frozen=True)
class DrawPlace:
    """One place in the race of a draw.

    Attributes:
        place: 1 for the winner.
        token: the token.
        probability: its share of the draw.
        behind: how far the winner was ahead, in words.
    """

    place: int
    token: TokenView
    probability: str
    behind: str


@dataclass(frozen=True)
class WhyView:
    """The whole answer.

    Attributes:
        title: the question.
        where: step, row and what the answer rests on.
        token: the token asked for.
        verdict: the answer in a sentence.
        chosen: what was chosen instead; empty where it was this token.
        stages: the token's score after each processor.
        goals: changes of settings that reach a goal.
        draw: first places of the draw.
        draw_note: why the draw is not shown, or that it gave another token.
        notes: further sentences.
    """

    title: str
    where: str
    token: TokenView
    verdict: str
    chosen: str
    stages: tuple[WhyStage, ...]
    goals: tuple[WhyGoal, ...]
    draw: tuple[DrawPlace, ...]
    draw_note: str
    notes: tuple[str, ...]


def why_view(
    report: WhyReport,
    tokens: Mapping[int, TokenText],
    *,
    draw: NearMisses | None = None,
    draw_note: str = "",
) -> WhyView:
    """Put an answer into words.

    Args:
        report: the answer.
        tokens: texts of the recording.
        draw: the repeated draw.
        draw_note: why there is none.
    """
    token = token_view(report.token, tokens)
    if draw is not None and not draw.reproduced:
        draw_note = _OTHER_DRAW
    return WhyView(
        title=f"Why {'' if report.verdict == 'chosen' else 'not '}{_named(token)}?",
        where=f"step {report.step}, row {report.row}, from {_SOURCES[report.source]}",
        token=token,
        verdict=_verdict(report),
        chosen=_chosen(report, tokens),
        stages=tuple(_stage(stage, FIRST_SCORES[report.loop].many) for stage in report.stages),
        goals=tuple(_goal(report, goal) for goal in GOALS if report.changes_for(goal)),
        draw=() if draw is None else _places(draw, tokens),
        draw_note=draw_note,
        notes=tuple(plain(note) for note in report.notes),
    )


_OTHER_DRAW = "The repeated draw gave another token, so these places say nothing about the recorded one."

_SOURCES = {
    "saved logits": "saved logits",
    "recorded scores": "recorded scores",
    "bounds": "what is recorded of other tokens",
}


def _named(token: TokenView) -> str:
    return f"{token.label} ({token.id})" if token.label else f"token {token.id}"


def _verdict(report: WhyReport) -> str:
    told = _TOLD.get(report.verdict)
    if told is not None:
        return told(report)
    return _FIXED.get(report.verdict, "The recording does not say.")


_FIXED: Mapping[Verdict, str] = {
    "not the highest score": (
        "It was left at the end; greedy decoding takes the highest score, which is another's."
    ),
    "padding": "The row had ended before this step, which only filled it up.",
}


def _chance(report: WhyReport) -> str:
    return "" if report.probability is None else figures.probability(report.probability)


def _was_chosen(report: WhyReport) -> str:
    if report.ranking is not None:
        return _won(report, report.ranking)
    chosen = f"It was chosen, with probability {figures.probability(report.chosen_probability)}."
    found = report.continuation
    if found is not None and found.forced:
        chosen += (
            f" The beam goes on with it for advancing a constraint{_in_bank(found)}: its score alone misses "
            f"the cut{_missed(report.last, found)}."
        )
    return chosen + _paid(found)


def _paid(found: Continuation | None) -> str:
    """What a continuation of a group paid, as a sentence to be added."""
    if found is None or not found.penalty or not found.taken_by:
        return ""
    rows = ", ".join(map(str, found.taken_by))
    several = len(found.taken_by) > 1
    who = f"rows {rows} of earlier groups go" if several else f"row {rows} of an earlier group goes"
    return f" It paid {figures.score(found.penalty)}, as {who} on with the same token."


def _won(report: WhyReport, ranking: RowRanking) -> str:
    """By what margin a candidate of a contrastive search won."""
    second, margin = ranking.runner_up, ranking.margin
    ahead = "" if second is None or margin is None else f", by {figures.score(margin)} before the next"
    return (
        f"It was taken{ahead}: its score is {_arithmetic(report, ranking.winner)}. "
        + ("It is not the most probable one: the penalty decided." if ranking.penalty_decided else "")
    ).strip()


def _arithmetic(report: WhyReport, each: RankedCandidate) -> str:
    """The score of a candidate with what it is made of."""
    alpha = report.penalty_alpha
    return (
        f"{1 - alpha:g} · {figures.probability(each.probability)} - {alpha:g} · {each.penalty:.4f} = "
        f"{figures.score(each.score)} (most like position {each.position})"
    )


def _outranked(report: WhyReport) -> str:
    """By how much a candidate of a contrastive search lost, and what would have made it win."""
    ranking = report.ranking
    assert ranking is not None
    place = next(at for at, each in enumerate(ranking.candidates) if each.token == report.token)
    own = ranking.candidates[place]
    lost = figures.score(ranking.winner.score - own.score)
    text = f"It was a candidate and lost by {lost}: its score is {_arithmetic(report, own)}."
    alphas, top_k = winning_alphas(ranking, place), winning_top_k(ranking, place)
    ways = [] if alphas is None else [f"penalty_alpha from {alphas[0]:.4f} to {alphas[1]:.4f}"]
    ways += [] if top_k is None else [f"top_k of at most {top_k}"]
    if not ways:
        return f"{text} No penalty_alpha and no smaller top_k would have made it win in this step."
    return f"{text} With {' or '.join(ways)} it would have won in this step."


def _no_candidate(report: WhyReport) -> str:
    """What a token that was not asked for lacks."""
    ranking = report.ranking
    assert ranking is not None
    last, chance = ranking.candidates[-1], _chance(report)
    own = f" (probability {chance})" if chance else ""
    return (
        f"It was no candidate{own}: only the {figures.count(len(ranking.candidates))} most probable tokens "
        f"are, the last with probability {figures.probability(last.probability)}. What its hidden state "
        "repeats is not known, since the model has not read it."
    )


def _lost(report: WhyReport) -> str:
    chance = _chance(report)
    how = f"with probability {chance}" if chance else "too"
    return f"It could have been drawn {how}; the draw took another."


def _undecided(report: WhyReport) -> str:
    chance = _chance(report)
    return f"It may still be chosen{f', with probability {chance}' if chance else ''}."


def _not_continued(report: WhyReport) -> str:
    """What became of a token in a beam search."""
    found = report.continuation
    if found is None:
        return "With it the beam was not among the best continuations."
    if found.fate == "beam":
        why = f" for advancing a constraint{_in_bank(found)}" if found.forced else ""
        return f"The beam goes on with it too, as row {found.row}{why}.{_paid(found)}"
    if found.fate == "displaced":
        return f"With it the beam {CONTINUATION_ENDED[found.fate]}: {_within_bank(report, found)}."
    if found.fate != "cut":
        return f"With it the beam {CONTINUATION_ENDED[found.fate]}.{_paid(found)}"
    if found.forced:
        told = "advances" if report.last_of_bank is None else FORCED_CUT
        return f"With it the beam {told}: {_within_bank(report, found)}."
    worth = f"With it the beam is worth {figures.score(found.score)}: it missed the cut"
    return f"{worth}{_missed(report.last, found)}.{_paid(found)}"


def _missed(last: float | None, found: Continuation) -> str:
    """By how much a continuation missed the score of the last that goes on."""
    return "" if last is None else f", by {figures.score(last - found.score)}"


def _in_bank(found: Continuation) -> str:
    return "" if found.bank is None else f", in bank {found.bank}"


def _within_bank(report: WhyReport, found: Continuation) -> str:
    """How a continuation fared among those that have met as much of their constraints."""
    worth = f"it is worth {figures.score(found.score)}{_in_bank(found)}"
    if report.last_of_bank is None:
        return f"{worth}, of which none goes on"
    missed = figures.score(report.last_of_bank - found.score)
    return f"{worth}, of which the last that goes on is worth {missed} more"


def _removal(report: WhyReport) -> str:
    stage = report.removed_by
    if report.stages[0].score == -math.inf:
        return FIRST_SCORES[report.loop].ruled_out
    if stage is None:
        return "It was removed; the recording does not say by which processor."
    name = plain(stage.class_name)
    if stage.cut is None:
        return f"{name} removed it, as one of the tokens of which {figures.count(stage.kept)} were left."
    return f"{name} removed it: {_fate(stage.cut, gone=True, exact=stage.cut_exact)}."


_TOLD: Mapping[Verdict, Callable[[WhyReport], str]] = {
    "chosen": _was_chosen,
    "lost the draw": _lost,
    "not continued": _not_continued,
    "outranked": _outranked,
    "no candidate": _no_candidate,
    "removed": _removal,
    "undecided": _undecided,
}


def _chosen(report: WhyReport, tokens: Mapping[int, TokenText]) -> str:
    """What was chosen instead; empty where it was this token or nothing is known."""
    if report.verdict in ("chosen", "padding") or report.chosen == NO_TOKEN:
        return ""
    chosen = _named(token_view(report.chosen, tokens))
    return f"Chosen was {chosen}, with probability {figures.probability(report.chosen_probability)}."


def _fate(cut: Cutoff, *, gone: bool, exact: bool) -> str:
    """On which side of the cutoff a token lies, and by how much."""
    about = "" if exact else "about "
    if cut.measure == "score" and cut.limit == -math.inf:
        return "no token that was left scores below its line"
    if cut.measure == "score":
        side = "below" if cut.margin < 0 else "above"
        words = f"its score is {about}{_size(cut.margin)} {side} the line of {figures.score(cut.limit)}"
        return words if cut.margin else f"its score is the line itself, {figures.score(cut.limit)}"
    if cut.measure == "probability above":
        held = figures.probability(cut.value)
        words = f"tokens above it hold {about}{held} of the probability"
        return f"{words}, {_against(cut, gone=gone)}"
    if cut.measure == "entropy":
        held = f"the tokens down to it make up {about}{cut.value:.4g} nats of the entropy"
        return f"{held}, the line is {cut.limit:.4g}{_below(cut)}"
    if cut.measure == "probability":
        return f"its probability is {about}{cut.value:.4g}, the line is {cut.limit:.4g}{_below(cut)}"
    return f"its surprise is {about}{cut.value:.4g} nats from the entropy, the line is {cut.limit:.4g}"


def _against(cut: Cutoff, *, gone: bool) -> str:
    limit = f"{cut.limit:g}"
    return f"no less than {limit}{_below(cut)}" if gone else f"less than {limit}"


def _below(cut: Cutoff) -> str:
    """The distance as a score, where it is one."""
    if cut.score_margin is None or not math.isfinite(cut.score_margin) or cut.score_margin >= 0:
        return ""
    return f"; its score is {_size(cut.score_margin)} below the lowest that stays"


def _size(margin: float) -> str:
    return figures.statistic(abs(margin))


def _stage(stage: TokenStage, first: str) -> WhyStage:
    return WhyStage(
        number=stage.stage or None,
        name=plain(stage.class_name) if stage.stage else first,
        settings=settings_text(stage.settings),
        score=_score(stage),
        rank=_rank(stage.rank),
        left=figures.count(stage.kept),
        remark=_remark(stage),
        removed=bool(stage.removed),
    )


def _score(stage: TokenStage) -> str:
    if stage.score is None:
        known = stage.at_most is not None and math.isfinite(stage.at_most)
        return f"at most {figures.score(stage.at_most or 0.0)}" if known else "not recorded"
    if stage.score == -math.inf:
        return "removed" if stage.removed or not stage.stage else "-"
    return figures.score(stage.score)


def _rank(rank: Rank | None) -> str:
    if rank is None:
        return ""
    if rank.exact:
        return figures.count(rank.value)
    if rank.at_most is None:
        return f"at least {figures.count(rank.value)}"
    return figures.span(rank.value, rank.at_most)


def _remark(stage: TokenStage) -> str:
    if stage.cut is not None:
        return _fate(stage.cut, gone=bool(stage.removed), exact=stage.cut_exact)
    if stage.removed:
        return "removed"
    return "unchanged" if stage.stage and stage.changed is False and stage.score != -math.inf else ""


def _goal(report: WhyReport, goal: Goal) -> WhyGoal:
    changes = report.changes_for(goal)
    reasons: dict[str, list[str]] = {}
    for change in changes:
        if change.needed is None:
            reasons.setdefault(_reason(change), []).append(change.setting)
    return WhyGoal(
        title=GOALS[goal],
        changes=tuple(_change(change) for change in changes if change.needed is not None),
        hopeless=tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()),
    )


def _reason(change: Change) -> str:
    return "no value of it would do" if change.reason.startswith("no ") else plain(change.reason)


def _change(change: Change) -> WhyChange:
    assert change.needed is not None  # looked at before
    return WhyChange(
        setting=change.setting,
        now=f"{change.now:g}",
        needed=f"{change.needed:.7g}",
        probability="" if change.probability is None else figures.probability(change.probability),
        exact=change.exact,
    )


def _places(draw: NearMisses, tokens: Mapping[int, TokenText]) -> tuple[DrawPlace, ...]:
    return tuple(
        DrawPlace(
            place=found.place,
            token=token_view(found.token, tokens),
            probability=figures.probability(found.probability),
            behind="won" if found.place == 1 else f"{found.behind:.3g} times behind",
        )
        for found in draw.places
    )

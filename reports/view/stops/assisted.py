"""Assisted decoding: the tokens proposed, the acceptance of each, and what the step appends."""

from __future__ import annotations

from collections.abc import Iterator

from reports.view.blocks import FigureColumn, FigureRow, FigureTable, Note, TokenStrip
from reports.view.card import Block
from reports.view.figures import count, duration, plural, probability
from reports.view.stops.context import Context
from tracer.schema.assisted import AssistedStep, Proposal

NOT_RECORDED = Note("What was proposed and accepted was not recorded.", "warning")


def candidates(context: Context) -> Iterator[Block]:
    """What was proposed, by whom, and how long that took."""
    found = context.step.head.assisted
    if found is None:
        yield NOT_RECORDED
        return
    yield Note(
        "Something cheaper than the model proposes the next tokens; one forward pass of the model then says "
        "how many of them it would have chosen itself."
    )
    took = f"in {duration(found.seconds)}"
    if found.forwards:
        took = f"with {plural(found.forwards, 'forward pass', 'forward passes')} of the draft model, {took}"
    yield Note(f"{found.proposer} proposed {plural(len(found.proposals), 'token')} {took}", "fact")
    if found.matched_at is not None:
        matched = context.sequence(found.matched)
        yield TokenStrip("the last tokens, found further up", matched, found.matched_at)
    elif not found.proposals:
        yield Note("There was nothing to propose: this step is one of ordinary decoding.")
    if found.proposals:
        start = context.step.head.ids_before.shape[1]
        yield TokenStrip("proposed", context.sequence(each.token for each in found.proposals), start)


def acceptance(context: Context) -> Iterator[Block]:
    """For each proposal the test that it was put to."""
    found = context.step.head.assisted
    if found is None:
        yield NOT_RECORDED
        return
    yield Note(_rule(found))
    if found.proposals:
        yield _table(context, found)
    yield Note(_outcome(found), "fact")


def crop(context: Context) -> Iterator[Block]:
    """What the cache drops of the proposals that were rejected."""
    found = context.step.head.assisted
    if found is None:
        yield NOT_RECORDED
        return
    rejected = len(found.proposals) - found.accepted
    if rejected:
        yield Note(f"The slots of {plural(rejected, 'rejected proposal')} are taken off the KV cache again.")
    else:
        yield Note("No proposal was rejected: every slot written stays.")


def strategy(context: Context) -> Iterator[Block]:
    """How many tokens will be proposed next."""
    found = context.step.head.assisted
    if found is None:
        yield NOT_RECORDED
        return
    if found.next_length is None:
        yield Note("This proposer does not change how many tokens it proposes.")
    else:
        yield Note(f"next step: {found.next_length:g} tokens to be proposed", "fact")


def _rule(found: AssistedStep) -> str:
    if any(each.draw is not None for each in found.proposals):
        return (
            "A proposal is accepted if a random number is at most its probability by the model divided by "
            "that by the draft model; the first that is not ends it, and another token is drawn in its place "
            "from what the model gives more probability than the draft model does."
        )
    return "Proposals are accepted as long as each is the token that the model chooses itself in its place."


def _table(context: Context, found: AssistedStep) -> FigureTable:
    drawn = any(each.draw is not None for each in found.proposals)
    drafted = any(each.draft is not None for each in found.proposals)
    return FigureTable(
        "proposals",
        (
            FigureColumn("", rank=3),
            FigureColumn("proposed", text=True),
            FigureColumn("p by the draft" if drafted else "", rank=1),
            FigureColumn("p by the model"),
            FigureColumn("ratio" if drawn else ""),
            FigureColumn("random number" if drawn else "chosen by the model", text=not drawn),
            FigureColumn("", text=True),
        ),
        tuple(
            _proposal(context, place, each, found, drawn=drawn)
            for place, each in enumerate(found.proposals, 1)
        ),
    )


def _proposal(context: Context, place: int, each: Proposal, found: AssistedStep, *, drawn: bool) -> FigureRow:
    ratio = "" if not drawn or not each.draft else f"{each.target / each.draft:.4f}"
    test = "" if each.draw is None else f"{each.draw:.4f}"
    own = "not known" if each.choice is None else context.token(each.choice)
    word = "rejected" if place == found.accepted + 1 else "not asked any more"
    return FigureRow(
        (
            str(place),
            context.token(each.token),
            "" if each.draft is None else probability(each.draft),
            probability(each.target),
            ratio,
            test if drawn else own,
            "accepted" if each.accepted else word,
        ),
        each.accepted,
    )


def _outcome(found: AssistedStep) -> str:
    text = f"{count(found.accepted)} of {plural(len(found.proposals), 'proposal')} accepted"
    if found.own:
        return f"{text}, and one token of the model's own behind them: {plural(len(found.appended), 'token')}"
    return f"{text}: they end the text, so no token of the model's own follows"

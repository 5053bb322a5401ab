"""The answer to "why not this token?" on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Column, Page, PageRenderable
from reports.terminal.questions.remarks import draw_remarks, draw_title
from reports.terminal.stops.card import draw_rule
from reports.terminal.words import token_text
from reports.view.questions.why import WhyGoal, WhyStage, WhyView

_RACE = "Each probability is divided by a random number; the largest quotient wins."


def render_why(view: WhyView) -> RenderableType:
    """The whole answer.

    Args:
        view: the answer in words.
    """

    def draw(page: Page) -> None:
        draw_rule(page, view.title, view.where)
        page.wrapped(Text(view.verdict))
        if view.chosen:
            page.wrapped(Text(view.chosen))
        _draw_stages(page, view)
        for goal in view.goals:
            _draw_goal(page, goal)
        _draw_race(page, view)
        draw_remarks(page, view.notes)

    return PageRenderable(draw)


def _draw_stages(page: Page, view: WhyView) -> None:
    stages = view.stages
    draw_title(page, "its scores through the pipeline")
    page.columns(
        [
            Column([_stage_name(stage) for stage in stages], "after"),
            Column([Text("  ".join(stage.settings)) for stage in stages], "", rank=1),
            Column([_score(stage) for stage in stages], "score", "right"),
            Column([Text(stage.rank) for stage in stages], "rank", "right"),
            Column([Text.styled(stage.left, theme.QUIET) for stage in stages], "tokens left", "right"),
        ]
    )
    _draw_stage_remarks(page, [stage for stage in stages if stage.number is not None and stage.remark])


def _draw_stage_remarks(page: Page, stages: Sequence[WhyStage]) -> None:
    for stage in stages:
        label = Text.styled(f"{stage.number} ", theme.NUMBER)
        page.hanging(label, Text.styled(stage.remark, theme.REMOVED if stage.removed else theme.QUIET))


def _stage_name(stage: WhyStage) -> Text:
    if stage.number is None:
        return Text(stage.name)
    return Text.styled(f"{stage.number} ", theme.NUMBER).append(stage.name, theme.NAME)


def _score(stage: WhyStage) -> Text:
    return Text.styled(stage.score, theme.REMOVED if stage.removed else theme.VALUE)


def _draw_goal(page: Page, goal: WhyGoal) -> None:
    draw_title(page, goal.title)
    changes = goal.changes
    if changes:
        page.columns(
            [
                Column([Text.styled(change.setting, theme.NAME) for change in changes], "setting"),
                Column([Text(change.now) for change in changes], "now", "right"),
                Column([Text.styled(change.needed, theme.CHOSEN) for change in changes], "needed", "right"),
                Column([Text(change.probability) for change in changes], "its probability then", "right"),
                Column(
                    [Text.styled("" if change.exact else "estimate", theme.CHANGED) for change in changes]
                ),
            ]
        )
    for line in goal.hopeless:
        page.wrapped(Text.styled(line, theme.QUIET), hanging=2)


def _draw_race(page: Page, view: WhyView) -> None:
    if not view.draw and not view.draw_note:
        return
    draw_title(page, "the draw of this step, repeated")
    page.wrapped(Text.styled(view.draw_note or _RACE, theme.QUIET))
    places = view.draw
    page.columns(
        [
            Column([Text(str(place.place)) for place in places], "place", "right"),
            Column([Text.styled(str(place.token.id), theme.QUIET) for place in places], "id", "right"),
            Column([token_text(place.token) for place in places], "token"),
            Column([Text(place.probability) for place in places], "probability", "right"),
            Column([Text(place.behind) for place in places], "in this draw"),
        ],
        INDENT,
    )

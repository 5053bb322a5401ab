"""Answers of a recording: the analyses' reports, which read as sentences and show a card in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tracer.analysis.diff.report import DiffReport
from tracer.analysis.whatif.report import WhatIfReport
from tracer.analysis.why.report import WhyReport
from tracer.schema.run import TokenText

_LISTED_STEPS = 12
"""Steps that the card of a what-if lists."""


@dataclass(frozen=True, repr=False)
class WhyAnswer(WhyReport):
    """Why a token was chosen or not.

    Attributes:
        texts: texts of the tokens that it names.
    """

    texts: Mapping[int, TokenText] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        from reports.view.questions.why import why_view

        view = why_view(self, self.texts)
        said = " ".join(part for part in (view.title, view.verdict, view.chosen) if part)
        return f"<step {self.step}, row {self.row}: {said}>"

    def _repr_html_(self) -> str:
        """The answer in a notebook."""
        from reports.terminal.notebook import as_html
        from reports.terminal.questions.why import render_why
        from reports.view.questions.why import why_view

        return as_html(render_why(why_view(self, self.texts)))


@dataclass(frozen=True, repr=False)
class WhatIfAnswer(WhatIfReport):
    """A run under other settings.

    Attributes:
        texts: texts of the tokens that it names.
    """

    texts: Mapping[int, TokenText] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        from reports.view.questions.whatif import whatif_view

        view = whatif_view(self, self.texts, steps=lambda _: False)
        return f"<what if {' '.join((f'{view.title}:', *view.first, f'{view.certainty}.'))}>"

    def _repr_html_(self) -> str:
        """The answer in a notebook: the first steps, and those where a text would first be another."""
        from reports.terminal.notebook import as_html
        from reports.terminal.questions.whatif import render_whatif
        from reports.view.questions.whatif import whatif_view

        return as_html(render_whatif(whatif_view(self, self.texts, steps=lambda step: step <= _LISTED_STEPS)))


@dataclass(frozen=True, repr=False)
class DiffAnswer(DiffReport):
    """Two runs compared.

    Attributes:
        names: what the runs are called.
        texts: texts of the tokens that it names.
    """

    names: tuple[str, str] = ("A", "B")
    texts: Mapping[int, TokenText] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        from reports.view.questions.diff import diff_view

        view = diff_view(self, self.names, self.texts)
        a, b = view.names
        return f"<A {a}, B {b}: {view.headline}. {view.explanation}>"

    def _repr_html_(self) -> str:
        """The comparison in a notebook."""
        from reports.terminal.notebook import as_html
        from reports.terminal.questions.diff import render_diff
        from reports.view.questions.diff import diff_view

        return as_html(render_diff(diff_view(self, self.names, self.texts)))


def why_answer(report: WhyReport, tokens: Mapping[int, TokenText]) -> WhyAnswer:
    """An answer of a recording.

    Args:
        report: what the analysis found.
        tokens: texts of the recording.
    """
    return WhyAnswer(**_fields(report), texts=_texts((report.token, report.chosen), tokens))


def whatif_answer(report: WhatIfReport, tokens: Mapping[int, TokenText]) -> WhatIfAnswer:
    """An answer of a recording.

    Args:
        report: what the analysis found.
        tokens: texts of the recording.
    """
    named = (token for each in report.steps for token in (each.recorded, each.token) if token is not None)
    return WhatIfAnswer(**_fields(report), texts=_texts(named, tokens))


def diff_answer(report: DiffReport, names: tuple[str, str], *tables: Mapping[int, TokenText]) -> DiffAnswer:
    """An answer of two recordings.

    Args:
        report: what the analysis found.
        names: what the runs are called.
        tables: texts of both recordings.
    """
    named = [token for each in report.tokens for token in (each.token_a, each.token_b)]
    texts = {token: text for table in reversed(tables) for token, text in _texts(named, table).items()}
    return DiffAnswer(**_fields(report), names=names, texts=texts)


def _fields(report: WhyReport | WhatIfReport | DiffReport) -> dict[str, Any]:
    return {each.name: getattr(report, each.name) for each in fields(report)}


def _texts(ids: Iterable[int], tokens: Mapping[int, TokenText]) -> dict[int, TokenText]:
    """Those of the texts that an answer needs; the trace may be closed when it is shown."""
    return {token: tokens[token] for token in dict.fromkeys(ids) if token in tokens}

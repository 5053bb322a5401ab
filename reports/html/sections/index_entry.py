"""The index entry of a run: everything small that the page shows at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from reports.html.pack import Json
from reports.html.sections.branches import fork_entry
from reports.html.sections.cards import figures_json
from reports.html.sections.steps import CHUNK
from reports.recorded_run import Run
from reports.view.blocks import Note
from reports.view.run.header import HeaderView, header_view
from reports.view.run.summary import summary
from reports.view.run.totals import RunTotals
from reports.view.stops.step import safe_anchor, stop_title
from reports.view.text import plain
from tracer.analysis.beams import kept
from tracer.analysis.processors.edits import Banning
from tracer.analysis.processors.parsing import parse_processor, settings_of
from tracer.analysis.processors.processor import Opaque
from tracer.analysis.processors.roles import roles
from tracer.library.first_scores import FIRST_SCORES
from tracer.schema.beams import BeamOutcome, Hypothesis
from tracer.schema.run import Anchor, ProcessorInfo, RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp


def index_entry(run: Run, totals: RunTotals, tokens: Mapping[int, TokenText]) -> Json:
    """One run in the page's index.

    Args:
        run: the run; its steps have been read.
        totals: counts over its steps.
        tokens: the token texts that are known.
    """
    header = run.header
    view = summary(
        run.end,
        header=header,
        run=run.number,
        steps=totals.steps,
        violations=totals.violations,
        errors=totals.errors,
        interventions=totals.interventions,
    )
    return {
        "number": run.number,
        "fork": fork_entry(header, tokens),
        "sampling": header.do_sample,
        "beams": _beams(header, run.end),
        "appended": totals.appended or None,
        "ranked": header.ranks,
        "first": {"one": FIRST_SCORES[header.loop].one, "many": FIRST_SCORES[header.loop].many},
        "cap": header.capture.candidates,
        "vocabulary": header.model.vocab_size,
        "capture": " ".join((header.capture.level, *map(plain, header.capture.save))),
        "modules": [[plain(module.name), plain(module.class_name)] for module in header.modules],
        "stops": [
            {
                "name": stop,
                "title": stop_title(stop),
                "anchor": _anchor(header.anchor(stop) or header.anchor(stop, "prefill")),
                "first": header.anchor(stop) is None,
            }
            for stop in header.stops[1:]
        ],
        **_header_entry(header, header_view(header, tokens)),
        "answers": _answers(run.end, [answer.text for answer in view.answers]),
        "tables": list(map(figures_json, view.tables)),
        "status": view.status,
        "seconds": view.seconds,
        "banners": list(_banners(view.notes, run.stamps, totals)),
        "chunk": CHUNK,
        "leading": totals.leading,
    }


def _answers(end: RunEnd | None, texts: Sequence[str | None]) -> list[str | None]:
    """The answer of each row; of a beam search that is the best sequence of its batch row."""
    if end is None or end.beams is None:
        return list(texts)
    each = len(texts) // max(len(end.beams.rows), 1)
    found = [texts[row * each] if each else None for row in range(len(end.beams.rows))]
    return [text for text in found for _ in range(end.beams.beams)]


def _beams(header: RunHeader, end: RunEnd | None) -> Json | None:
    """The beams of each row of the batch, and the hypotheses that it kept; None for any other run."""
    count = header.generation_config.get("num_beams", "")
    if not header.rows_move or not count.isdecimal():
        return None
    outcomes = () if end is None or end.beams is None else end.beams.rows
    groups = header.generation_config.get("num_beam_groups", "1")
    return {
        "count": int(count),
        "groups": int(groups) if groups.isdecimal() else 1,
        "rows": [[_hypothesis(row, each) for each in kept(row)] for row in outcomes],
    }


def _hypothesis(row: BeamOutcome, hypothesis: Hypothesis) -> Json:
    return {
        "step": hypothesis.step,
        "row": hypothesis.row,
        "open": hypothesis.token is None,
        "returned": hypothesis.number in row.returned,
    }


def _header_entry(header: RunHeader, view: HeaderView) -> Json:
    """What the page's header shows of a run header."""
    return {
        "model": view.model,
        "class": view.class_name,
        "tree": view.tree,
        "metadata": list(map(asdict, view.metadata)),
        "settings": list(map(asdict, view.settings)),
        "criteria": list(map(asdict, view.criteria)),
        "versions": list(map(asdict, view.versions)),
        "started": view.started_at,
        "prompts": [
            {"text": prompt.text, "padding": prompt.padding, "ids": list(row.token_ids)}
            for prompt, row in zip(view.prompts, header.prompt, strict=True)
        ],
        "processors": [
            {**asdict(value), "role": role, **_processor(info)}
            for value, info, role in zip(view.pipeline, header.processors, roles(header), strict=True)
        ],
    }


def _banners(notes: Sequence[Note], stamps: Sequence[Stamp], totals: RunTotals) -> Iterator[Json]:
    """What a reader has to know first, most serious first."""
    ranks = {"error": 0, "warning": 1, "ok": 2}
    found = [*notes, *map(_verification, stamps), *totals.notes()]
    for note in sorted(found, key=lambda note: ranks.get(note.level, 3)):
        yield {"text": note.text, "level": note.level}


def _verification(stamp: Stamp) -> Note:
    what = {"file": "the file itself", "rerun": "a run without the tracer"}[stamp.kind]
    found = "verified" if stamp.ok else "verification failed"
    return Note(
        f"{found} ({what}, {plain(stamp.made_at)}): {plain(stamp.summary)}", "ok" if stamp.ok else "error"
    )


def _processor(info: ProcessorInfo) -> Json:
    """What the page needs to repeat a processor: its numbers, and whether it only bans tokens by id."""
    processor = parse_processor(info)
    numbers = (
        {}
        if isinstance(processor, Opaque)
        else {
            name: value
            for name, value in settings_of(processor).items()
            if isinstance(value, int | float | tuple) and value != ()
        }
    )
    return {
        "list": info.list_name,
        "numbers": numbers,
        "known": not isinstance(processor, Opaque),
        "bans": isinstance(processor, Banning),
    }


def _anchor(anchor: Anchor | None) -> Json | None:
    safe = safe_anchor(anchor)
    if safe is None:
        return None
    return {
        "file": safe.file,
        "line": safe.line,
        "text": safe.text,
        "start": safe.excerpt_start,
        "excerpt": list(safe.excerpt),
    }

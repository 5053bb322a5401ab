"""The index entry of a run: everything small that the page shows at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reports.html.steps import CHUNK
from reports.view.blocks import Note
from reports.view.run.header import header_view
from reports.view.run.outcome import summary
from reports.view.run.tally import Tally
from reports.view.stops.step import safe_anchor, stop_title
from reports.view.text import plain
from tracer.analysis.processors.edits import Banning
from tracer.analysis.processors.parsing import parse_processor, settings_of
from tracer.analysis.processors.processor import Opaque
from tracer.schema.run import STOPS, Anchor, ProcessorInfo, RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp

Json = dict[str, Any]


def index_entry(
    number: int,
    header: RunHeader,
    end: RunEnd | None,
    stamps: Sequence[Stamp],
    tally: Tally,
    tokens: Mapping[int, TokenText],
) -> Json:
    """One run in the page's index.

    Args:
        number: of the run.
        header: its header.
        end: its end record, None if it is incomplete.
        stamps: results of verifications.
        tally: counts over its steps.
        tokens: the token texts that are known.
    """
    view = header_view(header, tokens)
    outcome = summary(
        end,
        header=header,
        run=number,
        steps=tally.steps,
        violations=tally.violations,
        errors=tally.errors,
        interventions=tally.interventions,
    )
    return {
        "number": number,
        "model": view.model,
        "class": view.class_name,
        "tree": view.tree,
        "facts": [asdict(fact) for fact in view.facts],
        "settings": [asdict(fact) for fact in view.settings],
        "criteria": [asdict(fact) for fact in view.criteria],
        "versions": [asdict(fact) for fact in view.versions],
        "started": view.started_at,
        "sampling": header.do_sample,
        "cap": header.capture.candidates,
        "vocabulary": header.model.vocab_size,
        "capture": " ".join((header.capture.level, *map(plain, header.capture.save))),
        "prompts": [
            {"text": prompt.text, "padding": prompt.padding, "ids": list(row.token_ids)}
            for prompt, row in zip(view.prompts, header.prompt, strict=True)
        ],
        "answers": [answer.text for answer in outcome.answers],
        "status": outcome.status,
        "seconds": outcome.seconds,
        "chunk": CHUNK,
        "banners": list(_banners(outcome.notes, stamps, tally)),
        "processors": [
            {**asdict(fact), **_processor(info)}
            for fact, info in zip(view.pipeline, header.processors, strict=True)
        ],
        "modules": [[plain(module.name), plain(module.class_name)] for module in header.modules],
        "stops": [
            {"name": stop, "title": stop_title(stop), "anchor": _anchor(header.anchor(stop))}
            for stop in STOPS[1:]
        ],
    }


def _banners(notes: Sequence[Note], stamps: Sequence[Stamp], tally: Tally) -> Iterator[Json]:
    """What a reader has to know before anything else, most serious first."""
    ranks = {"error": 0, "warning": 1, "ok": 2}
    proof = tally.proof()
    found = [*notes, *map(_verification, stamps), *([proof] if proof else [])]
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
            if isinstance(value, int | float) and not isinstance(value, bool)
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

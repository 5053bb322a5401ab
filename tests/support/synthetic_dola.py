"""Synthetic runs as DoLa decoding would have made them: their processors begin with a contrast of layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.support.synthetic import synthetic_header, synthetic_steps
from tracer.library.loops.dola import DOLA_4_44
from tracer.schema.checks import Check
from tracer.schema.columns import NO_TOKEN
from tracer.schema.contrast import ContrastedToken, EarlyLayer, LayerContrast
from tracer.schema.run import Anchor, RunHeader
from tracer.schema.step import Step

DIVERGENCES = {0: 3.1e-5, 14: 2.4e-4, 26: 1.9e-4}
LAYERS = (*DIVERGENCES,)
TAKEN = 14


def dola_header(*, rows: int = 1, layers: int = 28, do_sample: bool = True) -> RunHeader:
    """The header of a run of DoLa decoding."""
    header = synthetic_header(rows=rows, layers=layers, do_sample=do_sample)
    anchors = [
        anchor
        if anchor.stop == "forward-result"
        else anchor.model_copy(update={"function": DOLA_4_44.method})
        for anchor in header.anchors
    ]
    place = next(index for index, anchor in enumerate(anchors) if anchor.stop == "next-logits")
    anchors[place] = _anchor(anchors[place], 0, "final_logits = outputs.logits[:, -1, :]")
    contrast = _anchor(anchors[place], 1, "next_token_logits = _dola_select_contrast(")
    anchors.insert(place + 1, contrast.model_copy(update={"stop": "contrast"}))
    settings = {**header.generation_config, "dola_layers": str([*LAYERS])}
    return header.model_copy(
        update={
            "loop": DOLA_4_44.method,
            "stops": DOLA_4_44.stops,
            "anchors": tuple(anchors),
            "generation_config": settings,
        }
    )


def _anchor(anchor: Anchor, further: int, text: str) -> Anchor:
    line = anchor.line + further
    excerpt = (f"            {text}",)
    return anchor.model_copy(update={"line": line, "text": text, "excerpt_start": line, "excerpt": excerpt})


def dola_steps(header: RunHeader, count: int) -> Iterator[Step]:
    """Steps of such a run.

    Args:
        header: a header of :func:`dola_header`.
        count: how many.
    """
    for step in synthetic_steps(header, count):
        yield contrasted(step)


def contrasted(step: Step) -> Step:
    """A step whose recorded scores before the first processor are a contrast."""
    assert step.scores is not None
    first, tokens = step.scores.scores[0], step.scores.tokens
    rows = []
    for row in range(step.rows):
        there = np.flatnonzero((tokens[row] != NO_TOKEN) & (first[row] > -np.inf))
        best = there[np.argsort(-first[row, there], kind="stable")][:10]
        rows.append(
            tuple(
                ContrastedToken(
                    token=int(tokens[row, place]),
                    last=-0.5 * number - 0.25,
                    early=-0.5 * number - 0.25 - float(first[row, place]),
                )
                for number, place in enumerate(best)
            )
        )
    contrast = LayerContrast(
        layers=tuple(EarlyLayer(layer=layer, divergence=DIVERGENCES[layer]) for layer in LAYERS),
        taken=TAKEN,
        kept=tuple(map(len, rows)),
        tokens=tuple(rows),
    )
    check = Check.made("contrast", holds=True, checked=step.rows, total=step.rows)
    head = step.head.model_copy(update={"contrast": contrast, "checks": (*step.head.checks, check)})
    return replace(step, head=head)

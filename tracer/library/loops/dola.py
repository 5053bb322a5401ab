"""``_dola_decoding``: the last layer's prediction contrasted with that of an earlier one."""

from __future__ import annotations

from tracer.library.loop import Loop, Statement
from tracer.library.loops.sample import SAMPLE_4_44

_CALL = Statement("model-call", "outputs = self(")
_CONTRAST = (
    Statement("next-logits", "final_logits = outputs.logits[:, -1, :]"),
    Statement("contrast", "next_token_logits = _dola_select_contrast("),
)

DOLA_4_44 = Loop(
    "_dola_decoding",
    ("dola_generation",),
    "DoLa decoding",
    tuple(
        new
        for each in SAMPLE_4_44.statements
        for new in {"model-call": (_CALL,), "next-logits": _CONTRAST}.get(each.stop, (each,))
    ),
)
"""``_dola_decoding`` of 4.44: ``_sample`` with one statement more, whose result the processors begin with."""

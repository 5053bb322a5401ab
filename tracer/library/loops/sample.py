"""``_sample``: greedy decoding and sampling."""

from __future__ import annotations

from dataclasses import replace

from tracer.library.loop import FORWARD, PREFILL, Loop, Statement
from tracer.schema.run import LoopName

_METHOD: LoopName = "_sample"
_SAMPLE = _METHOD, ("greedy_search", "sample"), "greedy decoding and sampling"

SAMPLE_4_44 = Loop(
    *_SAMPLE,
    (
        Statement("model-call", "outputs = self(**model_inputs, return_dict=True)"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("next-logits", "next_token_logits = outputs.logits[:, -1, :]"),
        Statement("processors", "next_token_scores = logits_processor(input_ids, next_token_logits)"),
        Statement("warpers", "next_token_scores = logits_warper(input_ids, next_token_scores)"),
        Statement("softmax", "probs = nn.functional.softmax(next_token_scores, dim=-1)"),
        Statement("choice", "next_tokens = torch.multinomial(probs, num_samples=1)", choice="sampling"),
        Statement("choice", "next_tokens = torch.argmax(next_token_scores, dim=-1)", choice="greedy"),
        Statement("append", "input_ids = torch.cat([input_ids, next_tokens[:, None]], dim=-1)"),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("stopping", "unfinished_sequences = unfinished_sequences & ~stopping_criteria("),
    ),
)
"""``_sample`` of 4.44: processors and warpers are two lists, and arguments are updated behind the append."""

_PREFILL_4_57 = Statement("model-call", "outputs = self(**model_inputs, return_dict=True)", phase="prefill")

SAMPLE_4_57 = Loop(
    *_SAMPLE,
    (
        _PREFILL_4_57,
        Statement("model-call", "outputs = model_forward(**model_inputs, return_dict=True)", phase="decode"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("next-logits", "next_token_logits = outputs.logits[:, -1"),
        *(
            statement
            for statement in SAMPLE_4_44.statements
            if statement.stop in ("processors", "softmax", "choice", "append", "stopping")
        ),
    ),
)
"""``_sample`` since 4.45: one list of processors, and arguments are updated right behind the forward pass;
since 4.48 decode steps call the model on a line of their own."""

SAMPLE_5 = Loop(
    *_SAMPLE,
    tuple(
        replace(statement, start="return self(**model_inputs, return_dict=True)", function=PREFILL)
        if statement == _PREFILL_4_57
        else statement
        for statement in SAMPLE_4_57.statements
    ),
)
"""``_sample`` of 5.x, whose prefill is in a method of its own."""

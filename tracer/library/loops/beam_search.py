"""``_beam_search``: the best continuations of several beams at once, greedy or drawn."""

from __future__ import annotations

from dataclasses import replace

from tracer.library.loop import FORWARD, PREFILL, Loop, Statement
from tracer.schema.run import LoopName

_METHOD: LoopName = "_beam_search"
_BEAM_SEARCH = _METHOD, ("beam_search", "beam_sample"), "beam search"
_END = "while self._has_unfinished_sequences("

BEAM_SEARCH_4_44 = Loop(
    *_BEAM_SEARCH,
    (
        Statement("model-call", "outputs = self(**model_inputs, return_dict=True)", low_memory=False),
        Statement("model-call", "outputs_per_sub_batch = [", low_memory=True),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("next-logits", "next_token_logits = outputs.logits[:, -1, :].clone()"),
        Statement("log-softmax", "next_token_scores = nn.functional.log_softmax("),
        Statement("processors", "next_token_scores_processed = logits_processor(input_ids, "),
        Statement("warpers", "next_token_scores_processed = logits_warper(input_ids, "),
        Statement("beam-scores", "next_token_scores = next_token_scores_processed + beam_scores"),
        Statement("softmax", "probs = nn.functional.softmax(next_token_scores, dim=-1)"),
        Statement("choice", "next_tokens = torch.multinomial(probs, ", choice="sampling"),
        Statement("choice", "next_token_scores, next_tokens = torch.topk(", choice="greedy"),
        Statement("beams", "beam_outputs = beam_scorer.process("),
        Statement("append", "input_ids = torch.cat([input_ids[beam_idx, :], "),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("reorder", 'model_kwargs["past_key_values"] = self._temporary_reorder_cache('),
        Statement("stopping", "if beam_scorer.is_done or all(stopping_criteria(input_ids, scores)):"),
    ),
    end=_END,
)
"""``_beam_search`` of 4.44, whose bookkeeping is that of a beam scorer."""

CONTINUATIONS = "_get_top_k_continuations"
"""The method of newer releases that chooses continuations."""

RUNNING = "_get_running_beams_for_next_iteration"
"""The one that chooses those that go on as beams."""

FINISHED = "_update_finished_beams"
"""The one that chooses the hypotheses that are kept."""

IMPROVABLE = "_check_early_stop_heuristic"
"""The one that says of which rows of the batch a beam may still be better than a hypothesis."""

UNFINISHED = "_beam_search_has_unfinished_sequences"
"""The one that says whether there is another step."""

_PREFILL_4_57 = Statement("model-call", "model_outputs = self(**model_inputs, return_dict=True)")

BEAM_SEARCH_4_57 = Loop(
    *_BEAM_SEARCH,
    (
        _PREFILL_4_57,
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("next-logits", "logits = model_outputs.logits[:, -1, :]"),
        Statement("log-softmax", "log_probs = nn.functional.log_softmax("),
        Statement("processors", "log_probs = logits_processor("),
        Statement("beam-scores", "log_probs = log_probs + running_beam_scores"),
        Statement("softmax", "if do_sample:", function=CONTINUATIONS, choice="sampling"),
        Statement("choice", "topk_indices = torch.multinomial(", function=CONTINUATIONS, choice="sampling"),
        Statement(
            "choice", "topk_log_probs, topk_indices = torch.topk(", function=CONTINUATIONS, choice="greedy"
        ),
        Statement("append", "topk_running_sequences[:, :, cur_len] = topk_ids", function=CONTINUATIONS),
        Statement("stopping", "next_token_hits_stopping_criteria = stopping_criteria("),
        Statement("beams", "running_sequences, running_beam_scores, running_beam_indices = self."),
        Statement("reorder", "beam_idx = self._flatten_beam_dim(running_beam_indices["),
    ),
    (CONTINUATIONS, RUNNING, FINISHED, IMPROVABLE, UNFINISHED),
    _END,
    ("low_memory",),
)
"""``_beam_search`` of 4.57: tensors in place of a scorer, and methods of the model that decide."""

BEAM_SEARCH_5 = replace(
    BEAM_SEARCH_4_57,
    statements=(
        Statement("model-call", "return self(**model_inputs, return_dict=True)", PREFILL, phase="prefill"),
        replace(_PREFILL_4_57, phase="decode"),
        *BEAM_SEARCH_4_57.statements[1:],
    ),
)
"""``_beam_search`` of 5.x, whose prefill is in a method of its own."""

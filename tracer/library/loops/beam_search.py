"""``_beam_search``: the best continuations of several beams at once, greedy or drawn."""

from __future__ import annotations

from tracer.library.loop import FORWARD, Loop, Statement

BEAM_SEARCH_4_44 = Loop(
    "_beam_search",
    ("beam_search", "beam_sample"),
    "beam search",
    (
        Statement("model-call", "outputs = self(**model_inputs, return_dict=True)"),
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
)
"""``_beam_search`` of 4.44, whose bookkeeping is that of a beam scorer."""

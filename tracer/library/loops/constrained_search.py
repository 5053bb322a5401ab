"""``_constrained_beam_search``: a beam search whose sequences have to contain what constraints say."""

from __future__ import annotations

from tracer.library.loop import FORWARD, Loop, Statement

CONSTRAINED_SEARCH_4_44 = Loop(
    "_constrained_beam_search",
    ("constrained_beam_search",),
    "constrained beam search",
    (
        Statement("model-call", "outputs = self(**model_inputs, return_dict=True)"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("next-logits", "next_token_logits = outputs.logits[:, -1, :].clone()"),
        Statement("log-softmax", "next_token_scores = nn.functional.log_softmax("),
        Statement("processors", "next_token_scores_processed = logits_processor(input_ids, "),
        Statement("beam-scores", "next_token_scores = next_token_scores_processed + beam_scores["),
        Statement("choice", "next_token_scores, next_tokens = torch.topk("),
        Statement("beams", "beam_outputs = constrained_beam_scorer.process("),
        Statement("append", "input_ids = torch.cat([input_ids[beam_idx, :], "),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("reorder", 'model_kwargs["past_key_values"] = self._temporary_reorder_cache('),
        Statement("stopping", "if constrained_beam_scorer.is_done or all(stopping_criteria("),
    ),
)
"""``_constrained_beam_search`` of 4.44."""

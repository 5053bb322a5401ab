"""``_group_beam_search``: beams in groups, a later one of which pays for the tokens of the earlier ones."""

from __future__ import annotations

from tracer.library.loop import FORWARD, Loop, Statement

GROUP_SEARCH_4_44 = Loop(
    "_group_beam_search",
    ("group_beam_search",),
    "group beam search",
    (
        Statement("model-call", "outputs = self(**model_inputs, return_dict=True)"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("next-logits", "next_token_logits = outputs.logits[batch_group_indices, -1, :]"),
        Statement("log-softmax", "next_token_scores = nn.functional.log_softmax("),
        Statement("processors", "next_token_scores_processed = logits_processor("),
        Statement("beam-scores", "next_token_scores = next_token_scores_processed + beam_scores["),
        Statement("choice", "next_token_scores, next_tokens = torch.topk("),
        Statement("beams", "beam_outputs = beam_scorer.process("),
        Statement("append", "input_ids = torch.cat([input_ids, current_tokens"),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("reorder", 'model_kwargs["past_key_values"] = self._temporary_reorder_cache('),
        Statement("stopping", "if beam_scorer.is_done or all(stopping_criteria(input_ids, scores)):"),
    ),
)
"""``_group_beam_search`` of 4.44, coming once for each group to the stops from the logits to the beams."""

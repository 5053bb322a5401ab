"""``_contrastive_search``: the likely token that repeats least of what is there already."""

from __future__ import annotations

from tracer.library.loop import FORWARD, Loop, Statement

CONTRASTIVE_4_44 = Loop(
    "_contrastive_search",
    ("contrastive_search",),
    "contrastive search",
    (
        Statement("prefill", "outputs = self(", phase="prefill"),
        # Later steps begin with the logits that the step before has selected.
        Statement("next-logits", "logit_for_next_step = outputs.logits[:, -1, :].clone()", phase="prefill"),
        Statement("processors", "processed_logit_for_next_step = logits_processor(input_ids, "),
        Statement("softmax", "next_probs = nn.functional.softmax(processed_logit_for_next_step, dim=-1)"),
        Statement("top-k", "top_k_probs, top_k_ids = torch.topk(next_probs, dim=-1, k=top_k)"),
        Statement("repeat", 'past = model_kwargs["past_key_values"]', low_memory=False),
        Statement("model-call", "outputs = self(", occurrence=2, low_memory=True),
        Statement("model-call", "outputs = self(", occurrence=3, low_memory=False),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("choice", "selected_idx = _ranking_fast("),
        Statement("select", "next_model_input = self.prepare_inputs_for_generation(", low_memory=True),
        Statement(
            "select",
            "_, next_past_key_values = self._extract_past_from_model_output(outputs)",
            low_memory=False,
        ),
        Statement("append", "input_ids = torch.cat([input_ids, next_tokens[:, None]], dim=-1)"),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation(", occurrence=2),
        Statement("stopping", "unfinished_sequences = unfinished_sequences & ~stopping_criteria("),
    ),
)
"""``_contrastive_search`` of 4.44; later releases have it in code of its own on the hub."""

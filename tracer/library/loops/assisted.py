"""``_assisted_decoding``: tokens that something cheaper proposes, and that the model accepts or not."""

from __future__ import annotations

from dataclasses import replace

from tracer.library.loop import FORWARD, Loop, Statement

ASSISTED_4_44 = Loop(
    "_assisted_decoding",
    ("assisted_generation",),
    "assisted decoding",
    (
        Statement("candidates", "candidate_input_ids, candidate_logits = candidate_generator"),
        Statement("model-call", "outputs = self(**model_inputs)"),
        Statement("forward-result", "loss = None", function=FORWARD),
        Statement("next-logits", "new_logits = outputs.logits[:, -candidate_length - 1 :]"),
        Statement("processors", "new_logits[:, i, :] = logits_processor("),
        Statement("warpers", "new_logits[:, i, :] = logits_warper("),
        Statement("softmax", "probs = new_logits.softmax(dim=-1)", choice="sampling"),
        Statement("choice", "selected_tokens = torch.multinomial(", choice="sampling"),
        Statement("choice", "valid_tokens, n_matches = _speculative_sampling(", choice="speculative"),
        Statement("choice", "selected_tokens = new_logits.argmax(dim=-1)", choice="greedy"),
        Statement("append", "input_ids = torch.cat((input_ids, valid_tokens), dim=-1)"),
        Statement("crop", "outputs.past_key_values = _crop_past_key_values("),
        Statement("strategy", "candidate_generator.update_candidate_strategy("),
        Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
        Statement("stopping", "unfinished_sequences = unfinished_sequences & ~stopping_criteria(input_ids, "),
    ),
)
"""``_assisted_decoding`` of 4.44."""

_SHARED = tuple(each for each in ASSISTED_4_44.statements if each.stop not in ("warpers", "crop"))


def _with_crop(start: str) -> tuple[Statement, ...]:
    """The statements of newer releases, which have one list of processors and crop a cache by itself."""
    place = next(index for index, each in enumerate(_SHARED) if each.stop == "strategy")
    return (*_SHARED[:place], Statement("crop", start), *_SHARED[place:])


ASSISTED_4_57 = replace(ASSISTED_4_44, statements=_with_crop("outputs.past_key_values.crop("))
"""``_assisted_decoding`` since 4.45."""

_DECODE = Statement("model-call", "outputs = model_forward(**model_inputs)", phase="decode", everywhere=False)

ASSISTED_5 = replace(ASSISTED_4_44, statements=(_DECODE, *_with_crop("number_of_tokens_to_crop = ")))
"""``_assisted_decoding`` of 5.x, whose decode steps have a line of their own since 5.24."""

"""The variables of the library's own frames by their names: those assigned at a moment, and later ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from tracer.analysis.runs import scores_device
from tracer.library.loop import PREFILL
from tracer.library.loops.beam_search import CONTINUATIONS
from tracer.replay.moment import Moment
from tracer.replay.timeline import Position, reached
from tracer.replay.values.cache import given_cache, returned_cache
from tracer.replay.values.elements import Absent, Elements, Runs, Whole
from tracer.replay.values.loops import Since, exchanged_rows, integers, loop_variables
from tracer.replay.values.scores import logits_value, prompt_logits_value
from tracer.replay.values.statistics import output_statistics
from tracer.replay.values.tensor import tensor
from tracer.replay.values.value import Fields, Make, Value, sequence
from tracer.schema.run import ListName, RunHeader, StopName
from tracer.schema.step import ModelInputs
from tracer.schema.tensors import IntValues, NamedTensor, TensorInfo

FrameKind = Literal["sample", "forward"]
"""A frame of the library: the loop ``_sample``, or the model's ``forward`` inside it."""

_MODEL_KWARGS = ("attention_mask", "past_key_values", "cache", "cache_position", "use_cache")
"""What ``_sample`` hands on from step to step, of the model's inputs."""

_OF_PREFILL = ("input_ids", "model_inputs", "model_kwargs")
"""What a function of its own has that calls the model for the first time."""


_OF_CONTINUATIONS_ALONE = ("accumulated_log_probs", "topk_indices", "topk_ids")
_OF_CONTINUATIONS = (
    *_OF_CONTINUATIONS_ALONE,
    *("batch_size", "beams_to_keep", "cur_len", "decoder_prompt_len", "do_sample", "num_beams"),
    "topk_log_probs",
)
"""What a function of its own has in which a beam search chooses continuations; the first are there alone."""


def local_variables(moment: Moment, frame: FrameKind) -> dict[str, Make]:
    """The variables of a frame that are assigned at a moment, by name.

    Args:
        moment: the moment; its line has not run yet.
        frame: which frame.
    """
    if frame == "forward":
        return _forward_variables(moment)
    makes: dict[str, Since] = {
        "input_ids": (None, partial(_input_ids, moment)),
        "model_inputs": (None, partial(_model_inputs, moment)),
        "model_kwargs": (None, partial(_model_kwargs, moment)),
        "outputs": ("forward-result", partial(_outputs, moment)),
        "unfinished_sequences": (None, partial(_unfinished, moment)),
        "do_sample": (None, lambda: Value(str(moment.header.do_sample), "bool")),
        "logits_processor": (None, partial(_processors, moment, "logits_processor")),
        "stopping_criteria": (None, partial(_criteria, moment)),
        **loop_variables(moment),
    }
    if moment.header.ranks:
        del makes["do_sample"], makes["outputs"], makes["model_inputs"]
        makes |= _of_both_passes(moment)
    if moment.header.rows_move:
        makes = _with_names_of_beams(moment, makes)
    if "softmax" not in moment.header.stops:
        del makes["do_sample"]  # a loop that never draws does not ask for it
    if "warpers" in moment.header.stops:
        makes["logits_warper"] = None, partial(_processors, moment, "logits_warper")
    for name in _in_another_frame(moment, [*makes]):
        del makes[name]
    return {name: make for name, (since, make) in makes.items() if since is None or moment.passed(since)}


def _with_names_of_beams(moment: Moment, makes: dict[str, Since]) -> dict[str, Since]:
    """The variables as a beam search has them, which has no unfinished sequences and deletes the outputs."""
    without = {name: make for name, make in makes.items() if name not in ("unfinished_sequences", "outputs")}
    with_scorer = not moment.header.without_scorer
    outputs = {"outputs" if with_scorer else "model_outputs": makes["outputs"]}
    if with_scorer:
        return without if moment.passed("update") else without | outputs
    # It keeps the prompt under the name that other loops have the sequences under.
    without["input_ids"] = None, partial(_prompt_ids, moment)
    without["flat_running_sequences"] = None, partial(_ids_before, moment)
    return without if moment.passed("processors") else without | outputs


def _of_both_passes(moment: Moment) -> dict[str, Since]:
    """The model inputs of contrastive search, which has a forward pass over the prompt and one behind it."""
    head, makes = moment.step.head, dict[str, Since]()
    if head.prompt_pass is not None:  # later steps have that of the first
        makes["model_inputs"] = None, partial(_arguments, head.prompt_pass.inputs)
        if not moment.passed("top-k"):
            logits: dict[str, Make] = {"logits": partial(prompt_logits_value, moment)}
            makes["outputs"] = "prefill", partial(Fields, "logits", "CausalLMOutputWithPast", logits)
    if not moment.passed("forward-result"):  # then the loop deletes them
        since: StopName = "repeat" if "repeat" in moment.header.stops else "top-k"
        makes["next_model_inputs"] = since, partial(_arguments, head.inputs)
    else:  # the loop makes outputs of its own of the candidates taken
        parts: dict[str, Make] = {"logits": partial(logits_value, moment)}
        if moment.passed("select"):
            parts = {head.inputs.cache_name: partial(returned_cache, moment)}
        makes["outputs"] = None, partial(Fields, ", ".join(parts), "CausalLMOutputWithPast", parts)
    return makes


def _arguments(inputs: ModelInputs) -> Value:
    """The arguments of a forward pass, its cache by its class."""
    made: dict[str, Make] = {each.name: partial(_named, each) for each in inputs.tensors}
    made |= {name: partial(Value, text, "") for name, text in inputs.others.items()}
    return Fields(f"{{{', '.join(made)}}}", "dict", made, by_key=True)


def _in_another_frame(moment: Moment, names: list[str]) -> list[str]:
    """Variables that the frame of a moment lacks, where a function of its own does a part of the loop."""
    if _function(moment, moment.position.stop) == CONTINUATIONS:
        return [name for name in names if name not in _OF_CONTINUATIONS]
    missing = [name for name in names if name in _OF_CONTINUATIONS_ALONE]
    if _function(moment, "model-call") != PREFILL:
        return missing
    if moment.passed("forward-result"):
        return [*missing, "model_inputs"]
    return [name for name in names if name not in _OF_PREFILL]


def _function(moment: Moment, stop: StopName) -> str | None:
    """The function whose line a stop of the step is at; None where it has no line."""
    anchor = moment.header.anchor(stop, moment.position.phase)
    return None if anchor is None else anchor.function


def later_variables(moment: Moment) -> dict[str, Make]:
    """The variables of a step at its last stop, and those of ``forward``: what becomes known later in it.

    Args:
        moment: any moment of the step.
    """
    stops = reached(moment.step, moment.header, moment.stops) or moment.stops[:1]
    last = Moment(moment.shelf, Position(moment.position.step, stops[-1]), moment.stops)
    forward = _forward_variables(last) if "forward-result" in stops else {}
    return {**forward, **local_variables(last, "sample")}


def _forward_variables(moment: Moment) -> dict[str, Make]:
    made: dict[str, Make] = dict(_inputs(moment))
    made["hidden_states"] = partial(_hidden_states, moment)
    made[_logits_name(moment.header)] = partial(logits_value, moment)
    passes = moment.header.passes
    if passes == 1:
        return made
    part = Value(f"not recorded: this is one of {passes} forward passes, and each has its own")
    inputs = moment.step.head.inputs
    shared = inputs.others.keys() - {inputs.cache_name}
    return {name: make if name in shared else lambda: part for name, make in made.items()}


def _logits_name(header: RunHeader) -> str:
    """What ``forward`` calls the logits, by the recorded lines before ``loss = None``."""
    anchor = header.anchor("forward-result")
    lines = () if anchor is None else anchor.excerpt[: anchor.line - anchor.excerpt_start]
    found = [match[1] for line in lines if (match := re.match(r"\s*(\w*logits) = ", line))]
    return found[-1] if found else "logits"


def _inputs(moment: Moment) -> dict[str, Make]:
    """The arguments of the model."""
    inputs = _inputs_now(moment)
    made: dict[str, Make] = {each.name: partial(_named, each) for each in inputs.tensors}
    for name, text in inputs.others.items():
        made[name] = partial(Value, text, "")
    # Without use_cache a model may be given a cache that nothing was recorded of: then its class is all.
    if moment.step.head.cache_after.kind != "none":
        made[inputs.cache_name] = partial(given_cache, moment)
    return made


def _inputs_now(moment: Moment) -> ModelInputs:
    """The inputs of the forward pass that a moment belongs to."""
    head = moment.step.head
    prompt = head.prompt_pass
    return head.inputs if prompt is None or moment.passed("next-logits") else prompt.inputs


def _model_inputs(moment: Moment) -> Value:
    parts = _inputs(moment)
    return Fields(f"{{{', '.join(parts)}}}", "dict", parts, by_key=True)


def _model_kwargs(moment: Moment) -> Value:
    parts = {name: make for name, make in _inputs(moment).items() if name in _MODEL_KWARGS}
    if "attention_mask" in parts:
        parts["attention_mask"] = partial(_mask, moment)
    update = moment.step.head.update
    if moment.passed("update") and update is not None:
        cache = moment.step.head.inputs.cache_name
        if cache in parts:  # what the model returned, even if it was nothing
            parts[cache] = partial(returned_cache, moment)
        if update.attention_mask is not None:
            parts["attention_mask"] = partial(_next_mask, moment, update.attention_mask)
        if update.cache_position is not None:
            parts["cache_position"] = partial(
                _next_positions, update.cache_position, scores_device(moment.step.head)
            )
    return Fields(f"{{{', '.join(parts)}}}", "dict", parts, by_key=True)


def _mask(moment: Moment) -> Value:
    """The mask of tokens; some models are given one of another shape, made from it."""
    given = _inputs_now(moment).tensor("attention_mask")
    if given is not None and len(given.info.shape) == 2:
        return _named(given)
    before = moment.shelf.neighbour(moment.position.step - 1)
    update = before.head.update if before is not None else None
    missing = "the model was given another mask, made from this one"
    if update is None or update.attention_mask is None:
        return Value(f"not recorded: {missing}")
    return tensor(update.attention_mask, Absent(missing))


def _next_positions(values: IntValues, device: str) -> Value:
    info = TensorInfo(shape=(values.count + values.omitted,), dtype="int64", device=device)
    return tensor(info, Runs(values, info.shape))


def _next_mask(moment: Moment, info: TensorInfo) -> Value:
    """The mask for the next step, which holds its values."""
    after = moment.shelf.neighbour(moment.position.step + 1)
    mask = after.head.inputs.tensor("attention_mask") if after is not None else None
    if mask is None or mask.info != info:
        return tensor(info, Absent("its values would be in the next step, which was not recorded"))
    return _named(mask)


def _named(found: NamedTensor) -> Value:
    elements: Elements = Absent(f"values of {found.info.dtype} inputs are not recorded")
    if found.values is not None:
        elements = Runs(found.values, found.info.shape, found.info.dtype == "bool")
    return tensor(found.info, elements)


def _outputs(moment: Moment) -> Value:
    parts: dict[str, Make] = {"logits": partial(logits_value, moment)}
    if moment.step.head.cache_after.kind != "none":
        parts[moment.step.head.inputs.cache_name] = partial(returned_cache, moment)
    return Fields(", ".join(parts), "CausalLMOutputWithPast", parts)


def _hidden_states(moment: Moment) -> Value:
    result = moment.step.head.forward
    if result is None or result.hidden_states is None:
        return Value("not recorded: the output of the decoder was not seen")
    info = result.hidden_states
    statistics = output_statistics(moment.step, moment.header, info, of_model=False)
    return tensor(info, _saved_hidden(moment, info), statistics=statistics)


def _saved_hidden(moment: Moment, info: TensorInfo) -> Elements:
    """What ``--save modules=…`` stored of the decoder's own output; ``--save hidden`` stores its layers'."""
    number = moment.position.step
    for name in moment.run.tensor_names(number):
        kind, _, module = name.partition("/")
        if kind == "modules" and module and "." not in module and module != "lm_head":
            dtype, shape = moment.run.tensor_layout(number, name)
            if (dtype, shape) == (info.dtype, info.shape):
                return Whole(partial(moment.shelf.tensor, number, name))
    return Absent("not saved; the outputs of layers that were are under Modules, saved tensors")


def _unfinished(moment: Moment) -> Value:
    scores = moment.step.scores
    if scores is None:
        return Value("not recorded: the scores of this step were not")
    return integers(~scores.finished, moment)


def _ids_before(moment: Moment) -> Value:
    """The sequences before the step."""
    key = (moment.position.step, "input_ids", False)
    return tensor(
        moment.step.head.ids_before, Whole(lambda: moment.shelf.array(key, lambda: _histories(moment)))
    )


def _prompt_ids(moment: Moment) -> Value:
    """The sequences that the run began with."""
    prompt = [row.token_ids for row in moment.header.prompt]
    return integers(np.array(prompt, dtype=np.int64), moment)


def _histories(moment: Moment) -> npt.NDArray[np.int64]:
    return np.stack([moment.shelf.history(moment.position.step, row) for row in range(moment.rows)])


def _input_ids(moment: Moment) -> Value:
    head, appended = moment.step.head, moment.passed("append")
    info = head.ids_after if appended and head.ids_after is not None else head.ids_before
    number = moment.position.step

    def rows_before() -> npt.NDArray[np.int64]:
        return _histories(moment)

    exchanged = exchanged_rows(moment)

    def read() -> npt.NDArray[np.int64]:
        before = rows_before()
        return before[[*exchanged]] if exchanged else before

    def read_appended() -> npt.NDArray[np.int64]:
        scores = moment.step.scores
        assert scores is not None
        before = rows_before()
        kept = before[[*moment.step.parents]] if moment.step.parents else before
        tokens = [moment.step.appended(row) for row in range(moment.rows)]
        return np.concatenate([kept, np.array(tokens, dtype=np.int64)], axis=1)

    if appended and moment.step.scores is None:
        return tensor(info, Absent("the token of this step was not recorded"))
    key = (number, "input_ids", appended, exchanged)
    return tensor(info, Whole(lambda: moment.shelf.array(key, read_appended if appended else read)))


def _processors(moment: Moment, list_name: ListName) -> Value:
    found = [
        Value(_with_settings(each.class_name, each.settings), each.class_name)
        for each in moment.header.processors
        if each.list_name == list_name
    ]
    return sequence(found, "list")


def _criteria(moment: Moment) -> Value:
    found = [
        Value(_with_settings(each.class_name, each.settings), each.class_name)
        for each in moment.header.criteria
    ]
    return sequence(found, "list")


def _with_settings(name: str, settings: Mapping[str, str]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in settings.items())})"

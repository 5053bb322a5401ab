"""What a recording knows beyond the library's variables: candidates, modules, KV cache, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reports.view.stops.checks import stop_notes
from reports.view.text import visible
from tracer.analysis.runs import whole_scores
from tracer.errors import UsageError
from tracer.library.first_scores import FIRST_SCORES
from tracer.replay.moment import Moment
from tracer.replay.values.cache import cache_value, layer_value
from tracer.replay.values.elements import Whole
from tracer.replay.values.modules import modules_value
from tracer.replay.values.tensor import number, tensor
from tracer.replay.values.value import Fields, Listed, Make, Value
from tracer.schema.columns import NO_TOKEN
from tracer.schema.tensors import TensorInfo


def candidates_value(moment: Moment, row: int) -> Value:
    """The tokens of a row that could have been chosen, most probable first; the chosen one is marked.

    Args:
        moment: any moment of the step.
        row: row of the batch.
    """
    try:
        scores = whole_scores(moment.header, moment.step)
    except UsageError as error:
        return Value(str(error))
    places = [
        place
        for place, token in enumerate(scores.tokens[row])
        if token != NO_TOKEN and scores.probabilities[row, place] > 0
    ]
    count = int(scores.candidates[row])
    text = f"{count:,} candidates" if count != 1 else "1 candidate"
    if count > len(places):
        text = f"{text}, the best {len(places):,} of which are recorded"
    return Listed(text, "", len(places), lambda rank: _candidate(moment, row, places[rank]))


def token_text(moment: Moment, token: int) -> str:
    """A token's text, made visible, and its id.

    Args:
        moment: any moment of the run.
        token: id of the token.
    """
    known = moment.tokens.get(token)
    return f"token {token}" if known is None else f'"{visible(known.text, 80)}" ({token})'


def _candidate(moment: Moment, row: int, place: int) -> Value:
    scores = moment.step.scores
    assert scores is not None
    token = int(scores.tokens[row, place])
    probability = number(scores.probabilities[row, place])
    mark = " ← chosen" if token == scores.chosen[row] else ""
    names = (
        FIRST_SCORES[moment.header.loop].one,
        *(f"after {each.class_name}" for each in moment.header.processors),
    )
    parts: dict[str, Make] = {
        "token": partial(Value, str(token), "int"),
        "probability": partial(Value, probability, "float"),
    }
    for stage in range(len(scores.scores)):
        name = names[stage] if stage < len(names) else f"after processor {stage}"
        # Two processors of one class are told apart by their place.
        name = f"{name} ({stage})" if name in parts else name
        parts[name] = partial(Value, number(scores.scores[stage, row, place]), "float")
    return Fields(f"{token_text(moment, token)}{mark}: {probability}", "", parts)


def cache_scope(moment: Moment) -> Value:
    """The KV cache by layer.

    Args:
        moment: the moment.
    """
    cache = cache_value(moment)
    return Listed(cache.text, cache.type_name, cache.indexed, partial(layer_value, moment), "layer {}".format)


def checks_value(moment: Moment) -> Value:
    """Checks, violations, faults of recording and interventions of a step, each at its stop.

    Args:
        moment: any moment of the step.
    """
    parts: dict[str, Make] = {}
    for stop in moment.header.stops:
        notes = stop_notes(moment.step, stop, moment.header)
        for place, note in enumerate(notes):
            name = stop if len(notes) == 1 else f"{stop} {place + 1}"
            parts[name] = partial(Value, note.text)
    return Fields(f"{len(parts)} findings", "", parts)


def saved_value(moment: Moment) -> Value:
    """The tensors whose values the trace stores of a step, by their names there.

    Args:
        moment: any moment of the step.
    """
    number = moment.position.step
    parts: dict[str, Make] = {
        name: partial(_saved, moment, number, name) for name in moment.run.tensor_names(number)
    }
    return Fields(f"{len(parts)} saved tensors", "", parts, by_key=True)


def _saved(moment: Moment, number: int, name: str) -> Value:
    dtype, shape = moment.run.tensor_layout(number, name)
    info = TensorInfo(shape=shape, dtype=dtype, device="cpu")
    return tensor(info, Whole(partial(moment.shelf.tensor, number, name)))


def _modules(moment: Moment, _row: int) -> Value:
    return modules_value(moment, saved_value(moment))


SCOPES: Mapping[str, Callable[[Moment, int], Value]] = {
    "Candidates": candidates_value,
    "Modules": _modules,
    "KV cache": lambda moment, _row: cache_scope(moment),
    "Checks": lambda moment, _row: checks_value(moment),
}
"""The scopes beside the locals: name, and what makes it for a moment and a row."""

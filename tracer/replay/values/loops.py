"""The variables that only one decoding loop has, by its own names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from tracer.analysis.runs import scores_device
from tracer.replay.moment import Moment
from tracer.replay.timeline import Position
from tracer.replay.values.elements import Absent, Elements, Whole
from tracer.replay.values.scores import last_logits_value, probabilities_value, scores_value
from tracer.replay.values.tensor import Tensor, tensor
from tracer.replay.values.value import Make, Value
from tracer.schema.beams import BeamRow, BeamStep
from tracer.schema.columns import NO_TOKEN
from tracer.schema.lineage import Parents
from tracer.schema.ranking import ContrastiveStep
from tracer.schema.run import LoopName, StopName
from tracer.schema.tensors import TensorInfo

Since = tuple[StopName | None, Make]
"""The stop behind which a variable is assigned, None for one that always is; and what makes its value."""


def loop_variables(moment: Moment) -> dict[str, Since]:
    """What a loop has beside what all loops have.

    Args:
        moment: the moment.
    """
    return _OF_LOOP[moment.header.loop](moment)


def processed_scores(moment: Moment) -> Value:
    """The scores after the first list of processors, and after the warpers once they have run.

    Args:
        moment: the moment.
    """
    processors = moment.header.processors
    first = sum(1 for each in processors if each.list_name == "logits_processor")
    return scores_value(moment, len(processors) if moment.passed("warpers") else first)


def chosen_tokens(moment: Moment) -> Value:
    """The token of each row.

    Args:
        moment: the moment.
    """
    scores = moment.step.scores
    if scores is None or (scores.chosen == NO_TOKEN).any():
        return Value("not recorded: the choice of this step was not")
    return integers(scores.chosen, moment)


def integers(values: npt.NDArray[np.generic], moment: Moment) -> Value:
    """A tensor of whole numbers, all of them known.

    Args:
        values: the numbers.
        moment: the moment.
    """
    info = TensorInfo(shape=values.shape, dtype="int64", device=scores_device(moment.step.head))
    whole = values.astype(np.int64)
    return tensor(info, Whole(lambda: whole))


def _of_sample(moment: Moment) -> dict[str, Since]:
    found: dict[str, Since] = {
        "next_token_logits": ("next-logits", partial(scores_value, moment, 0)),
        **_one_token(moment),
    }
    if "warpers" in moment.header.stops:
        found["cur_len"] = None, lambda: Value(str(moment.step.head.ids_before.shape[-1]), "int")
    return found


def _of_dola(moment: Moment) -> dict[str, Since]:
    missing = "not recorded: of the candidate layers the recording has the divergences, and the one taken"
    return {
        "dola_layers": (None, lambda: Value(moment.header.generation_config.get("dola_layers", ""), "")),
        "final_logits": ("next-logits", partial(last_logits_value, moment)),
        "candidate_premature_logits": ("next-logits", lambda: Value(missing)),
        "next_token_logits": ("contrast", partial(scores_value, moment, 0)),
        **_one_token(moment),
    }


def _one_token(moment: Moment) -> dict[str, Since]:
    """What loops have that choose a token of each row by itself."""
    return {
        "next_token_scores": ("processors", partial(processed_scores, moment)),
        "probs": ("softmax", partial(probabilities_value, moment)),
        "next_tokens": ("choice", partial(chosen_tokens, moment)),
    }


def _of_beams(moment: Moment) -> dict[str, Since]:
    return _of_beam_tensors(moment) if moment.header.without_scorer else _of_beam_scorer(moment)


def _of_beam_scorer(moment: Moment) -> dict[str, Since]:
    found: dict[str, Since] = {
        "num_beams": (None, lambda: Value(moment.header.generation_config.get("num_beams", ""), "int")),
        "next_token_logits": ("next-logits", partial(last_logits_value, moment)),
        "next_token_scores": ("log-softmax", partial(_scores_of_continuations, moment)),
        "next_token_scores_processed": ("processors", partial(processed_scores, moment)),
    }
    beams = moment.step.head.beams
    if beams is None:
        return found
    if "softmax" in moment.header.stops:
        found["probs"] = "softmax", partial(_of_all_continuations, moment, beams)
    running = beams.scores if moment.passed("beams") else beams.before
    found["beam_scores"] = None, partial(_floats, np.array(running), moment)
    found["next_tokens"] = "choice", partial(_of_continuations, moment, beams, "token")
    found["beam_next_tokens"] = "beams", partial(chosen_tokens, moment)
    found["beam_idx"] = "beams", partial(integers, np.array(beams.parents), moment)
    if all(row.continuations for row in beams.rows):
        found["next_indices"] = "choice", partial(integers, _parents_in(beams.rows, beams.beams), moment)
    return found


def _of_beam_tensors(moment: Moment) -> dict[str, Since]:
    """Of a beam search that has no scorer, and chooses continuations in a function of its own."""
    beams, head = moment.step.head.beams, moment.step.head
    settings = moment.header.generation_config
    found: dict[str, Since] = {
        "num_beams": (None, lambda: Value(settings.get("num_beams", ""), "int")),
        "cur_len": (None, lambda: Value(str(head.ids_before.shape[-1]), "int")),
        "decoder_prompt_len": (None, lambda: Value(str(head.ids_before.shape[-1] + 1 - head.step), "int")),
        "logits": ("next-logits", partial(last_logits_value, moment)),
    }
    if beams is None:
        return found
    everything = partial(_of_all_continuations, moment, beams)
    shape = len(beams.rows), beams.beams
    running = np.array(beams.scores if moment.passed("beams") else beams.before).reshape(shape)
    values = Absent("a recording has the value of each hypothesis in the step in which it ended")
    chosen = [
        [each.parent % beams.beams * head.vocab_size + each.token for each in row.continuations]
        for row in beams.rows
    ]
    return found | {
        "batch_size": (None, lambda: Value(str(len(beams.rows)), "int")),
        "beams_to_keep": (None, lambda: Value(str(len(beams.rows[0].continuations)), "int")),
        "running_beam_scores": (None, partial(_floats, running, moment)),
        "beam_scores": (None, partial(tensor, _float_info(shape, moment), values)),
        "log_probs": ("log-softmax", partial(_log_probabilities, moment, beams)),
        "accumulated_log_probs": (None, everything),
        "topk_log_probs": ("choice", partial(_of_continuations, moment, beams, "score")),
        "topk_indices": ("choice", partial(integers, np.array(chosen), moment)),
        "topk_ids": ("choice", partial(_of_continuations, moment, beams, "token")),
        "next_token_hits_stopping_criteria": (
            None if moment.position.step == 1 else "stopping",
            partial(_ended_continuations, moment, beams),
        ),
    }


def _log_probabilities(moment: Moment, beams: BeamStep) -> Value:
    """``log_probs``: of tokens by row, then by batch row and beam, then of all continuations of one."""
    if moment.passed("beam-scores"):
        return _of_all_continuations(moment, beams)
    if not moment.passed("processors"):
        return scores_value(moment, 0)
    info = _float_info((len(beams.rows), beams.beams, moment.step.head.vocab_size), moment)
    return tensor(
        info, Absent("what the recording has of the processed scores is among Processors and Candidates")
    )


def _ended_continuations(moment: Moment, beams: BeamStep) -> Value:
    ended = np.array([[bool(each.criteria) for each in row.continuations] for row in beams.rows])
    if not moment.passed("stopping"):  # in the first step, of the beams
        ended = np.zeros((len(beams.rows), beams.beams), dtype=np.bool_)
    info = TensorInfo(shape=ended.shape, dtype="bool", device=scores_device(moment.step.head))
    return tensor(info, Whole(lambda: ended))


def _parents_in(rows: Sequence[BeamRow], beams: int) -> npt.NDArray[np.int64]:
    """Which beam of its row, or of its group, each continuation that the choice takes goes on from."""
    return np.array([[each.parent % beams for each in row.continuations if not each.forced] for row in rows])


def _of_groups(moment: Moment) -> dict[str, Since]:
    """Of a group beam search, which comes to a stop once for each group, and halts there for the first one.

    Behind the groups it has what the last one leaves.
    """
    settings, beams = moment.header.generation_config, moment.step.head.beams
    names = ("num_beams", "num_beam_groups")
    found: dict[str, Since] = {name: (None, partial(Value, settings.get(name, ""), "int")) for name in names}
    if beams is None:
        return found
    group = beams.groups - 1 if moment.passed("beams") else 0
    rows = [row for row in range(moment.rows) if beams.place(row)[1] == group]
    found["beam_group_idx"] = "forward-result", partial(Value, str(group), "int")
    found["next_token_logits"] = "next-logits", partial(_of_rows, last_logits_value(moment), rows)
    processed = partial(_of_rows, processed_scores(moment), rows)
    found["next_token_scores_processed"] = "processors", processed
    return found | _best_of(moment, beams, group, rows) | _of_all_groups(moment, beams, rows)


def _of_all_groups(moment: Moment, beams: BeamStep, rows: list[int]) -> dict[str, Since]:
    """What the groups leave behind, and of one of them what it leaves."""
    over, zeros = moment.passed("beams"), np.zeros(moment.rows)
    parents = [beams.place(row)[0] * beams.beams + row % beams.beams for row in beams.parents]
    moved = np.array(beams.parents) if over else zeros
    found: dict[str, Since] = {
        "beam_scores": (None, partial(_floats, np.array(beams.scores if over else beams.before), moment)),
        "reordering_indices": (None, partial(integers, moved, moment)),
        "beam_idx": ("beams", partial(integers, np.array(parents)[rows], moment)),
    }
    if moment.step.scores is not None:
        chosen = moment.step.scores.chosen
        found["current_tokens"] = None, partial(integers, chosen if over else zeros, moment)
        found["beam_next_tokens"] = "beams", partial(integers, chosen[rows], moment)
    return found


def _best_of(moment: Moment, beams: BeamStep, group: int, rows: list[int]) -> dict[str, Since]:
    """The continuations of a group of each row of the batch."""
    own = beams.model_copy(update={"rows": beams.rows[group :: beams.groups]})

    def scores() -> Value:
        if not moment.passed("beam-scores"):
            return _of_rows(scores_value(moment, 0), rows)
        if moment.passed("choice"):
            return _of_continuations(moment, own, "score")
        return _of_all_continuations(moment, own)

    found: dict[str, Since] = {
        "next_token_scores": ("log-softmax", scores),
        "next_tokens": ("choice", partial(_of_continuations, moment, own, "token")),
    }
    if all(row.continuations for row in own.rows):
        found["next_indices"] = "choice", partial(integers, _parents_in(own.rows, beams.beams), moment)
    return found


def exchanged_rows(moment: Moment) -> Parents:
    """Which row each row of ``input_ids`` is before the append; empty where each is its own.

    A group beam search exchanges the rows of a group at the end of its turn.

    Args:
        moment: the moment.
    """
    exchanged = moment.header.loop == "_group_beam_search" and moment.passed("beams")
    return moment.step.parents if exchanged else ()


def _of_rows(value: Value, rows: list[int]) -> Value:
    """Some rows of a value that is known for all."""
    if not isinstance(value, Tensor):
        return value
    info = value.info.model_copy(update={"shape": (len(rows), *value.info.shape[1:])})
    elements = value.elements
    if isinstance(elements, Whole):
        whole = elements
        return tensor(info, Whole(lambda: whole.read()[rows]))
    return tensor(info, elements if isinstance(elements, Absent) else _Rows(elements, rows))


class _Rows:
    """The elements of some rows.

    Args:
        elements: of all rows.
        rows: which.
    """

    def __init__(self, elements: Elements, rows: list[int]) -> None:
        self._elements = elements
        self._rows = rows
        self.missing = elements.missing

    def at(self, place: tuple[int, ...]) -> np.generic | None:
        """The element."""
        return self._elements.at((self._rows[place[0]], *place[1:]))


def _scores_of_continuations(moment: Moment) -> Value:
    """``next_token_scores``: of tokens, of all continuations, then of the best ones."""
    beams = moment.step.head.beams
    if not moment.passed("beam-scores") or beams is None:
        return scores_value(moment, 0)
    if moment.passed("choice"):
        return _of_continuations(moment, beams, "score")
    return _of_all_continuations(moment, beams)


def _of_all_continuations(moment: Moment, beams: BeamStep) -> Value:
    """A figure of every token of every beam, of which the recording has the best ones."""
    info = _float_info((len(beams.rows), beams.beams * moment.step.head.vocab_size), moment)
    return tensor(info, Absent("the recording has the continuations that the choice takes"))


def _of_continuations(moment: Moment, beams: BeamStep, name: Literal["token", "score"]) -> Value:
    """A figure of the continuations that the choice takes, by batch row."""
    figures = [[getattr(each, name) for each in row.continuations if not each.forced] for row in beams.rows]
    if not all(figures):
        return Value("not recorded: a row of the batch was done before, and nothing is known of its beams")
    if name == "token":
        return integers(np.array(figures), moment)
    return _floats(np.array(figures), moment)


def _floats(values: npt.NDArray[np.float64], moment: Moment) -> Value:
    whole = values.astype(np.float32)
    return tensor(_float_info(values.shape, moment), Whole(lambda: whole))


def _float_info(shape: tuple[int, ...], moment: Moment) -> TensorInfo:
    return TensorInfo(shape=shape, dtype="float32", device=scores_device(moment.step.head))


def _of_assisted(moment: Moment) -> dict[str, Since]:
    assisted, head = moment.step.head.assisted, moment.step.head
    found: dict[str, Since] = {"cur_len": (None, lambda: Value(str(head.ids_before.shape[-1]), "int"))}
    if assisted is None:
        return found
    proposed = [each.token for each in assisted.proposals]

    def candidates() -> Value:
        history = moment.shelf.history(moment.position.step, 0)
        return integers(np.concatenate([history, np.array(proposed, dtype=np.int64)])[None], moment)

    places = len(proposed) + 1
    result = head.forward
    if result is not None:
        info = result.logits.model_copy(update={"shape": (1, places, head.vocab_size)})
        absent = Absent("of several positions the recording has one: that of the last token appended")
        for name, stop in _POSITIONS.items():
            found[name] = stop, partial(tensor, info, absent)
    found["candidate_input_ids"] = None, candidates
    found["candidate_length"] = None, lambda: Value(str(len(proposed)), "int")
    found["valid_tokens"] = "choice", partial(integers, np.array([assisted.appended]), moment)
    found["n_matches"] = "choice", partial(integers, np.array(len(assisted.appended) - 1), moment)
    return found


def _of_contrastive(moment: Moment) -> dict[str, Since]:
    head, settings = moment.step.head, moment.header.generation_config
    found: dict[str, Since] = {
        "top_k": (None, lambda: Value(settings.get("top_k", "50"), "int")),
        "penalty_alpha": (None, lambda: Value(settings.get("penalty_alpha", ""), "float")),
        "batch_size": (None, lambda: Value(str(moment.rows), "int")),
        "logit_for_next_step": ("next-logits", partial(_logits_to_begin_with, moment)),
        "processed_logit_for_next_step": ("processors", partial(processed_scores, moment)),
        "next_probs": ("softmax", partial(probabilities_value, moment)),
        # Behind the selection, rows that have ended get padding in place of what they took.
        "next_tokens": ("select" if _any_ended(moment) else "choice", partial(chosen_tokens, moment)),
    }
    ids = head.inputs.tensor("input_ids") if moment.header.passes == 1 else None
    if ids is not None and ids.values is not None and not ids.values.omitted:
        candidates = ids.values.decode().reshape(moment.rows, -1)
        found["top_k_ids"] = "top-k", partial(integers, candidates, moment)
    return found if head.contrastive is None else {**found, **_of_ranking(moment, head.contrastive)}


def _any_ended(moment: Moment) -> bool:
    """Whether a row had ended before the step."""
    scores = moment.step.scores
    return scores is not None and bool(scores.finished.any())


def _of_ranking(moment: Moment, ranking: ContrastiveStep) -> dict[str, Since]:
    """What is known where no row has ended, since nothing is recorded of the candidates of one that has."""
    rows = [row for row in ranking.rows if row is not None]
    if not rows or len(rows) < len(ranking.rows):
        return {}
    chances = np.array([[each.probability for each in row.candidates] for row in rows])
    tokens = np.array([[each.token for each in row.candidates] for row in rows])
    return {
        "top_k_ids": ("top-k", partial(integers, tokens, moment)),
        "top_k_probs": ("top-k", partial(_floats, chances, moment)),
        "selected_idx": ("choice", partial(integers, np.array([row.taken for row in rows]), moment)),
    }


def _logits_to_begin_with(moment: Moment) -> Value:
    """``logit_for_next_step``: from the selection on it is what the next step begins with."""
    if not moment.passed("select"):
        return scores_value(moment, 0)
    after = moment.position.step + 1
    if moment.shelf.neighbour(after) is None:
        return Value("not recorded: the step that begins with it was not")
    return scores_value(Moment(moment.shelf, Position(after, "processors"), moment.stops), 0)


_POSITIONS: Mapping[str, StopName] = {
    "new_logits": "next-logits",
    "next_token_logits": "next-logits",
    "probs": "softmax",
}
"""Tensors of assisted decoding with a place for each position."""

_OF_LOOP: Mapping[LoopName, Callable[[Moment], dict[str, Since]]] = {
    "_sample": _of_sample,
    "_dola_decoding": _of_dola,
    "_beam_search": _of_beams,
    "_group_beam_search": _of_groups,
    "_constrained_beam_search": _of_beams,
    "_assisted_decoding": _of_assisted,
    "_contrastive_search": _of_contrastive,
}

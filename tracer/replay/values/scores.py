"""Logits, scores and probabilities of a step, after any number of its processors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tracer.analysis.processors.softmax import softmax
from tracer.analysis.runs import LOGITS
from tracer.library.first_scores import FIRST_SCORES
from tracer.replay.moment import Moment
from tracer.replay.values.elements import Absent, Elements, OfTokens, Whole
from tracer.replay.values.statistics import output_statistics
from tracer.replay.values.tensor import tensor
from tracer.replay.values.value import Value
from tracer.schema.arrays import F32, I32
from tracer.schema.columns import NO_TOKEN
from tracer.schema.lineage import Parents
from tracer.schema.tensors import TensorInfo

_SAVE = "record with --capture tensors --save logits"


def logits_value(moment: Moment) -> Value:
    """``outputs.logits``, of which only the last position is ever saved.

    Args:
        moment: the moment.
    """
    result = moment.step.head.forward
    if result is None:
        return Value("not recorded: the result of the forward pass was not seen")
    statistics = output_statistics(moment.step, moment.header, result.logits, of_model=True)
    return _at_last_position(result.logits, _logits(moment), statistics)


def prompt_logits_value(moment: Moment) -> Value:
    """The same of a forward pass over the prompt, behind which the step has another one.

    Args:
        moment: the moment; it is of step 1.
    """
    prompt = moment.step.head.prompt_pass
    if prompt is None or prompt.forward is None:
        return Value("not recorded: the result of the forward pass was not seen")
    info = prompt.forward.logits
    statistics = output_statistics(moment.step, moment.header, info, of_model=True)
    return _at_last_position(info, scores_elements(moment, 0), statistics)


def _at_last_position(info: TensorInfo, elements: Elements, statistics: str) -> Value:
    """Logits of which the last position is known."""
    if len(info.shape) != 3:
        return tensor(info, Absent("only the last position is in the recording"), statistics=statistics)
    last = info.shape[1] - 1
    if isinstance(elements, Whole):
        why = "only the last position was saved" if last else ""
        return tensor(info, Whole(lambda: elements.read()[:, None], last, why), statistics=statistics)
    return tensor(info, _LastPosition(elements, last), statistics=statistics)


def _logits(moment: Moment) -> Elements:
    """The logits of the last position, where the processors begin with them."""
    loop = moment.header.loop
    if loop == "_sample":
        return scores_elements(moment, 0)
    if loop == "_assisted_decoding":
        return Absent("of several positions the recording has one: that of the last token appended")
    if loop == "_contrastive_search":
        return Absent("of the candidates' logits the recording has those that the next step begins with")
    return Absent(f"the recording has the {FIRST_SCORES[loop].many} that {loop} makes of them")


def last_logits_value(moment: Moment) -> Value:
    """``final_logits`` of DoLa decoding: the last position of ``outputs.logits``.

    Args:
        moment: the moment.
    """
    result = moment.step.head.forward
    if result is None:
        return Value("not recorded: the result of the forward pass was not seen")
    return tensor(result.next_logits, _logits(moment))


def scores_value(moment: Moment, stage: int) -> Value:
    """The scores after a number of processors, ``[batch, vocabulary]``.

    Args:
        moment: the moment.
        stage: number of processors that have run; 0 is ``next_token_logits``.
    """
    result = moment.step.head.forward
    if result is None:
        return Value("not recorded: the result of the forward pass was not seen")
    return tensor(result.next_logits, scores_elements(moment, stage))


def probabilities_value(moment: Moment) -> Value:
    """``probs``: the softmax of the scores after all processors.

    Args:
        moment: the moment.
    """
    scores, result = moment.step.scores, moment.step.head.forward
    if scores is None or result is None:
        return Value("not recorded: the scores of this step were not")
    remark = "the softmax of the recorded scores, taken in float32"
    elements = scores_elements(moment, len(moment.header.processors))
    if isinstance(elements, Whole):
        key = (moment.position.step, "probs")

        def read() -> npt.NDArray[np.float32]:
            return np.stack([softmax(row.astype(np.float32)) for row in elements.read()])

        return tensor(result.next_logits, Whole(lambda: moment.shelf.array(key, read)), remark=remark)
    last = len(scores.scores) - 1
    others = tuple(
        np.float32(0) if _all_others_removed(moment, last, row) else None for row in range(moment.rows)
    )
    missing = "" if None not in others else _missing("probabilities")
    found = OfTokens(scores.tokens, scores.probabilities, others, missing)
    return tensor(result.next_logits, found, remark=remark)


def scores_elements(moment: Moment, stage: int) -> Elements:
    """The scores after a number of processors, as far as they are recorded.

    Args:
        moment: the moment.
        stage: number of processors that have run.
    """
    step, scores = moment.step, moment.step.scores
    if stage == 0 and LOGITS in moment.run.tensor_names(step.number):
        number = step.number
        return Whole(lambda: moment.shelf.tensor(number, LOGITS))
    if scores is None or stage >= len(scores.scores):
        return Absent("the scores of this step were not recorded")
    others = tuple(
        np.float32(-np.inf) if _all_others_removed(moment, stage, row) else None for row in range(moment.rows)
    )
    if step.parents:
        return _before_the_choice(step.parents, scores.tokens, scores.scores[stage], others)
    return OfTokens(
        scores.tokens, scores.scores[stage], others, "" if None not in others else _missing("scores")
    )


def _before_the_choice(
    parents: Parents, tokens: I32, scores: F32, others: Sequence[np.float32 | None]
) -> Elements:
    """Scores by the rows before the choice, of which those that no row continues are not recorded."""
    rows = [parents.index(row) if row in parents else None for row in range(len(parents))]
    places = [row or 0 for row in rows]
    known = np.array([row is not None for row in rows])
    found = tuple(None if row is None else others[row] for row in rows)
    missing = "" if None not in found else "no row goes on from some of the rows, or " + _missing("scores")
    return OfTokens(np.where(known[:, None], tokens[places], NO_TOKEN), scores[places], found, missing)


class _LastPosition:
    """Scores of recorded tokens, at the last of several positions."""

    def __init__(self, elements: Elements, last: int) -> None:
        self._elements = elements
        self._last = last
        self.missing = elements.missing or "only the last position is in the recording"

    def at(self, place: tuple[int, ...]) -> np.generic | None:
        """The element, None before the last position."""
        return self._elements.at((place[0], place[2])) if place[1] == self._last else None


def _all_others_removed(moment: Moment, stage: int, row: int) -> bool:
    """Whether every token that is not among the recorded ones was removed by a processor.

    A score that is not a number is neither kept nor removed, so both counts have to make up the vocabulary.
    """
    scores = moment.step.scores
    assert scores is not None
    kept, removed = int(scores.kept[stage, row]), int(scores.removed[: stage + 1, row].sum())
    listed = (scores.tokens[row] != NO_TOKEN) & (scores.scores[stage, row] > -np.inf)
    return kept + removed == moment.step.head.vocab_size and int(listed.sum()) == kept


def _missing(what: str) -> str:
    return f"only the {what} of the recorded tokens are in the recording; {_SAVE}"

"""What a recorded beam search would have returned with other settings of how hypotheses are kept.

``length_penalty`` and ``early_stopping`` decide which hypotheses are kept and when a row of the batch is
done, and nothing else: continuations are chosen by their scores, and by the constraints that they meet. So
the hypotheses can be worked out again from the recorded continuations, as far as the run went. Where it would
have gone on, nothing is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracer.analysis.hypotheses import Rules
from tracer.analysis.runs import RecordedRun
from tracer.analysis.whatif.kept_by_scorer import KeptByScorer
from tracer.analysis.whatif.kept_by_tensors import KeptByTensors, require_order
from tracer.errors import UnsupportedError, UsageError
from tracer.schema.beams import BeamEnd, BeamOutcome, EarlyStopping
from tracer.schema.run import RunHeader, RunStatus
from tracer.schema.step import Step


@dataclass(frozen=True)
class BeamSettings:
    """Changed settings of a beam search; None keeps a setting as it was recorded.

    Attributes:
        length_penalty: exponent of the length.
        early_stopping: when a row of the batch is done.
        num_return_sequences: how many hypotheses of each row are returned.
    """

    length_penalty: float | None = None
    early_stopping: EarlyStopping | None = None
    num_return_sequences: int | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The changed settings by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class BeamWhatIf:
    """A beam search under changed settings.

    Attributes:
        settings: the changed settings.
        length_penalty: the exponent of the length then.
        steps: steps that it would take; None where it would go on behind the recorded ones.
        rows: what each row of the batch would have; None where it would go on behind what is recorded of it.
        parts: for each row the last step that is recorded of it, where it would go on; else None.
        same: for each row, whether the hypothesis that wins is the recorded one; None where it is not known.
    """

    settings: BeamSettings
    length_penalty: float
    steps: int | None
    rows: tuple[BeamOutcome | None, ...]
    parts: tuple[int | None, ...]
    same: tuple[bool | None, ...]

    @property
    def exact(self) -> bool:
        """Whether everything is known, to the bit."""
        return None not in self.rows


def beam_whatif(run: RecordedRun, settings: BeamSettings) -> BeamWhatIf:
    """Work out the hypotheses of a recorded beam search with other settings.

    Args:
        run: the run.
        settings: the changed settings.

    Raises:
        UsageError: the run is no beam search, it did not come to its end, or the setting is not possible.
        UnsupportedError: its hypotheses cannot be worked out again.
    """
    end, steps = _recorded(run)
    recorded = _rules(run, end)
    returned = len(end.rows[0].returned)
    before = _worked_out(run, recorded, steps, returned)
    if _told(before.rows) != _told(end.rows):
        raise UnsupportedError("The recorded hypotheses are not those that the recorded scores lead to.")
    returned = returned if settings.num_return_sequences is None else settings.num_return_sequences
    if not 1 <= returned <= end.beams:
        raise UsageError(f"num-return-sequences: from 1 to num_beams, which is {end.beams}")
    changed = _changed(recorded, settings)
    found = _worked_out(run, changed, steps, returned)
    return BeamWhatIf(
        settings=settings,
        length_penalty=changed.length_penalty,
        steps=found.last,
        rows=found.rows,
        parts=found.parts,
        same=tuple(
            None if row is None else _returned(row)[:1] == _returned(was)[:1]
            for row, was in zip(found.rows, end.rows, strict=True)
        ),
    )


def _rules(run: RecordedRun, end: BeamEnd) -> Rules:
    """The settings of a recorded search."""
    return Rules(
        beams=end.beams // end.groups,
        length_penalty=end.length_penalty,
        early_stopping=_STOPPING[end.early_stopping],
        max_length=(run.header.max_length or 0) - len(run.header.prompt[0].token_ids),
    )


_STOPPING: Mapping[EarlyStopping, bool | str] = {"True": True, "False": False, "never": "never"}


def _changed(rules: Rules, settings: BeamSettings) -> Rules:
    penalty, stopping = settings.length_penalty, settings.early_stopping
    return dataclasses.replace(
        rules,
        length_penalty=rules.length_penalty if penalty is None else penalty,
        early_stopping=rules.early_stopping if stopping is None else _STOPPING[stopping],
    )


def _worked_out(
    run: RecordedRun, rules: Rules, steps: Sequence[Step], returned: int
) -> KeptByScorer | KeptByTensors:
    """What each row comes to by some settings."""
    try:
        if _has_scorer(run.header):
            return KeptByScorer(rules, steps, returned)
        found = KeptByTensors(rules, steps, returned)
    except OverflowError:
        raise UsageError(
            f"length-penalty {rules.length_penalty:g}: too large for a sequence of so many tokens"
        ) from None
    except ZeroDivisionError:
        raise UsageError(
            f"length-penalty {rules.length_penalty:g}: too small for a sequence of so many tokens"
        ) from None
    require_order(found.rows)
    return found


def _recorded(run: RecordedRun) -> tuple[BeamEnd, list[Step]]:
    """The end of a search, and its steps."""
    header, end, steps = run.header, run.end, [*run.steps]
    if not header.rows_move:
        raise UsageError(
            "Length penalty, early stopping and the number of sequences are settings of beam search."
        )
    if end is None or end.status is not RunStatus.COMPLETE or end.beams is None:
        raise UsageError("The beam search did not come to its end, so that its hypotheses are not known.")
    if any(step.head.beams is None for step in steps):
        raise UsageError("What the beam search decided was not recorded in every step.")
    _require_known_criteria(header)
    return end.beams, steps


def _has_scorer(header: RunHeader) -> bool:
    """Whether a beam scorer kept the hypotheses: newer releases have none."""
    return header.loop != "_beam_search" or not header.one_list


def _require_known_criteria(header: RunHeader) -> None:
    """With a scorer all rows are asked for, also those that are done and filled up."""
    names = [each.class_name for each in header.criteria if each.class_name not in _KNOWN_CRITERIA]
    if names and _has_scorer(header):
        raise UnsupportedError(
            f"What {names[0]} says of rows that are done at another time is not known, so that the end of "
            "the search is not either."
        )


_KNOWN_CRITERIA = ("MaxLengthCriteria", "MaxTimeCriteria", "EosTokenCriteria")
"""Stopping criteria whose common answer does not depend on rows that are done and filled up."""


def _returned(row: BeamOutcome) -> list[tuple[int, int, int | None]]:
    """The hypotheses returned, best first, each by the step, row and token that it ended with."""
    found = (row.hypotheses[number] for number in row.returned)
    return [(each.step, each.row, each.token) for each in found]


def _told(rows: Sequence[BeamOutcome | None]) -> list[tuple[list[tuple[int, int, int | None]], int]]:
    """What a replay with the recorded settings has to come to."""
    return [(_returned(row), len(row.kept)) for row in rows if row is not None]

"""A run without texts, token ids and absolute paths; all figures stay.

Token ids would give the text away to anyone who has the tokenizer. Each token gets another number, counted
from 1 in the order of appearance, so that the same token can still be followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.schema.arrays import I32
from tracer.schema.run import Anchor, ProcessorInfo, PromptRow, RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp
from tracer.schema.step import NO_TOKEN, Failure, ScoreColumns, Step, StepHead
from tracer.schema.tensors import IntValues, NamedTensor
from tracer.tracefile import TraceRun

LEFT_OUT = "(left out)"

_TOKEN_TENSORS = frozenset({"input_ids", "decoder_input_ids", "labels"})
_PATH = re.compile(r"(?:[A-Za-z]:[\\/]|[\\/]|~[\\/]|file:)[^\s'\",;:()]+")
_HARMLESS = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?|-?inf|nan|True|False|None|\w{1,40}Cache")


class RedactedRun:
    """A run as a redacted page shows it.

    Args:
        run: the run.
        numbers: what stands for each token; shared by the runs of a page.
    """

    def __init__(self, run: TraceRun, numbers: Aliases) -> None:
        self.number = run.number
        self._run = run
        self._numbers = numbers
        self.header = _header(run.header, numbers)

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """The tokens that have been numbered so far, without their texts."""
        return self._numbers.texts(self._run.tokens)

    @property
    def end(self) -> RunEnd | None:
        """The end record without texts."""
        end = self._run.end
        if end is None:
            return None
        sequences = tuple(tuple(self._numbers.of(row).tolist()) for row in end.sequences)
        error = None if end.error is None else _kind_of_error(end.error)
        return end.model_copy(update={"sequences": sequences, "texts": (), "error": error})

    @property
    def steps(self) -> RedactedSteps:
        """The steps without texts."""
        return RedactedSteps(self._run.steps, self._numbers)

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Verifications, without paths."""
        return tuple(
            stamp.model_copy(update={"summary": without_paths(stamp.summary)}) for stamp in self._run.stamps
        )

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Saved tensors that can be shown: those of lens and attention; others are indexed by token id."""
        return tuple(
            name for name in self._run.tensor_names(step) if name.partition("/")[0] in ("lens", "attention")
        )

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """One of them, without token ids."""
        found = self._run.tensor(step, name)
        return self._numbers.of(found) if name == "lens/tokens" else found


class Aliases:
    """Numbers that stand for token ids, in the order in which tokens appear."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def of(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The numbers of ids, in the same shape; :data:`NO_TOKEN` stays."""
        given = np.asarray(ids, dtype=np.int64)
        numbers = [self._number(token) for token in given.ravel().tolist()]
        return np.array(numbers, dtype=np.int64).reshape(given.shape)

    def of_columns(self, ids: I32) -> I32:
        """The same for a column of a step."""
        return self.of(ids).astype(np.int32)

    def texts(self, known: Mapping[int, TokenText]) -> dict[int, TokenText]:
        """All tokens with an empty text; special ones stay marked."""
        return {
            number: TokenText(id=number, text="", piece="", special=token in known and known[token].special)
            for token, number in self._numbers.items()
        }

    def _number(self, token: int) -> int:
        return token if token == NO_TOKEN else self._numbers.setdefault(token, len(self._numbers) + 1)


class RedactedSteps:
    """Steps of a redacted run, each made when it is asked for."""

    def __init__(self, steps: Sequence[Step], numbers: Aliases) -> None:
        self._steps = steps
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        for step in self._steps:
            scores = None if step.scores is None else self._scores(step.scores)
            yield replace(step, head=self._head(step.head), scores=scores)

    def _scores(self, scores: ScoreColumns) -> ScoreColumns:
        return replace(
            scores,
            tokens=self._numbers.of_columns(scores.tokens),
            chosen=self._numbers.of_columns(scores.chosen),
            removed_tokens=self._numbers.of_columns(scores.removed_tokens),
        )

    def _head(self, head: StepHead) -> StepHead:
        inputs = head.inputs.model_copy(
            update={
                "tensors": tuple(self._tensor(tensor) for tensor in head.inputs.tensors),
                "others": {name: _value(value) for name, value in head.inputs.others.items()},
            }
        )
        return head.model_copy(
            update={
                "inputs": inputs,
                "violations": tuple(
                    item.model_copy(update={"message": without_paths(item.message)})
                    for item in head.violations
                ),
                "errors": tuple(
                    item.model_copy(update={"message": _kind_of_error(item.message)}) for item in head.errors
                ),
                "failure": None if head.failure is None else _without_text(head.failure),
                "interventions": tuple(
                    item.model_copy(update={"detail": LEFT_OUT}) for item in head.interventions
                ),
            }
        )

    def _tensor(self, tensor: NamedTensor) -> NamedTensor:
        if tensor.values is None or tensor.name not in _TOKEN_TENSORS:
            return tensor
        values = IntValues.encode(self._numbers.of(tensor.values.decode()))
        omitted = values.omitted + tensor.values.omitted
        return tensor.model_copy(update={"values": values.model_copy(update={"omitted": omitted})})


def without_paths(text: str) -> str:
    """Text with every absolute path replaced."""
    return _PATH.sub(LEFT_OUT, text)


def _header(header: RunHeader, numbers: Aliases) -> RunHeader:
    model = header.model.model_copy(
        update={"name": re.split(r"[\\/]", header.model.name.rstrip("\\/"))[-1], "config": "{}"}
    )
    return header.model_copy(
        update={
            "model": model,
            "generation_config": {name: _value(value) for name, value in header.generation_config.items()},
            "prompt": tuple(
                PromptRow(token_ids=tuple(numbers.of(row.token_ids).tolist()), padding=row.padding)
                for row in header.prompt
            ),
            "processors": tuple(map(_without_texts, header.processors)),
            "criteria": tuple(
                item.model_copy(update={"settings": _settings(item.settings)}) for item in header.criteria
            ),
            "anchors": tuple(map(_without_path, header.anchors)),
        }
    )


def _without_texts(processor: ProcessorInfo) -> ProcessorInfo:
    return processor.model_copy(update={"settings": _settings(processor.settings)})


def _without_path(anchor: Anchor) -> Anchor:
    return anchor.model_copy(
        update={"path": "", "file": re.sub(r"^(?:[A-Za-z]:)?[\\/].*[\\/]", "", anchor.file)}
    )


def _settings(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: _value(value) for name, value in settings.items()}


def _value(value: str) -> str:
    """A setting that is a number, a flag or a kind of cache; anything else may hold texts or token ids."""
    return value if _HARMLESS.fullmatch(value) else LEFT_OUT


def _without_text(failure: Failure) -> Failure:
    return failure.model_copy(update={"message": _kind_of_error(failure.message)})


def _kind_of_error(message: str) -> str:
    kind = message.partition(":")[0]
    return f"{kind}: {LEFT_OUT}" if kind.isidentifier() else LEFT_OUT

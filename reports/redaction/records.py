"""Records without what they say.

Every text of every record is left out unless :data:`_KEPT` names its field, so that a field that is new is
left out until somebody has thought about it. Whole numbers stay but for token ids, which are in the fields
that :class:`Redactor` replaces.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin

from reports.redaction import shapes
from reports.redaction.aliases import Aliases
from reports.redaction.public_source import is_public_file, is_public_source
from reports.redaction.shapes import LEFT_OUT, Keep
from tracer.schema.assisted import AssistedStep, Proposal
from tracer.schema.base import Record
from tracer.schema.beams import Constraint, ConstraintProgress, ConstraintStep, Continuation, Hypothesis
from tracer.schema.cache import CacheState
from tracer.schema.changes import Intervention
from tracer.schema.contrast import ContrastedToken, LayerContrast
from tracer.schema.faults import CaptureError, Failure
from tracer.schema.fork import ForkOrigin
from tracer.schema.ranking import RankedCandidate
from tracer.schema.run import (
    AdapterInfo,
    Anchor,
    CaptureSettings,
    CheckpointFaults,
    CriterionInfo,
    ModelInfo,
    ModuleInfo,
    ProcessorInfo,
    PromptRow,
    RunEnd,
    RunHeader,
)
from tracer.schema.stamp import Stamp
from tracer.schema.step import Draw, ModelInputs
from tracer.schema.tensors import IntValues, NamedTensor, TensorInfo

_KEPT: Mapping[type[Record], Mapping[str, Keep]] = {
    TensorInfo: {"dtype": shapes.dtype, "device": shapes.device},
    NamedTensor: {"name": shapes.code_name},
    CacheState: {"kind": shapes.cache_kind},
    ModuleInfo: {"name": shapes.module_path, "class_name": shapes.code_name},
    ModelInfo: {
        "class_name": shapes.code_name,
        "dtype": shapes.dtype,
        "attention": shapes.code_name,
        "devices": shapes.device,
        "tree": shapes.module_tree,
        "quantization": shapes.quantization,
    },
    AdapterInfo: {"kind": shapes.code_name},
    CheckpointFaults: {"missing": shapes.module_path, "unexpected": shapes.module_path},
    ProcessorInfo: {"class_name": shapes.code_name, "module": shapes.module_path, "settings": shapes.setting},
    CriterionInfo: {"class_name": shapes.code_name, "module": shapes.module_path, "settings": shapes.setting},
    AssistedStep: {"proposer": shapes.code_name},
    Constraint: {"name": shapes.code_name},
    CaptureSettings: {"save": shapes.capture},
    RunHeader: {
        "generation_config": shapes.setting,
        "versions": shapes.version,
        "started_at": shapes.moment,
    },
    ModelInputs: {"others": shapes.setting},
    ForkOrigin: {"settings": shapes.setting},
    Draw: {"device": shapes.device, "digest": shapes.hexadecimal, "state": shapes.hexadecimal},
    CaptureError: {"message": shapes.kind_of_error},
    Failure: {"message": shapes.kind_of_error},
    RunEnd: {"error": shapes.kind_of_error},
    Stamp: {"made_at": shapes.moment, "product_version": shapes.version},
}
"""The texts that stay, and what of them, by record and field."""

_NOTHING: Mapping[str, Keep] = MappingProxyType({})

_HOLD_TOKENS = (
    NamedTensor,
    LayerContrast,
    Continuation,
    Hypothesis,
    AssistedStep,
    ConstraintProgress,
    ConstraintStep,
    RankedCandidate,
)
"""Records without texts that hold token ids."""

_TOKEN_TENSORS = frozenset({"input_ids", "decoder_input_ids", "labels"})
_PLACE_TENSORS = frozenset({"attention_mask", "position_ids", "cache_position", "token_type_ids"})

R = TypeVar("R", bound=Record)


class Redactor:
    """Makes records without texts, token ids and paths.

    Args:
        aliases: what stands for each token.
    """

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._special: dict[type[Record], Callable[[Any], dict[str, Any]]] = {
            Anchor: _anchor,
            ModelInfo: lambda info: {"name": shapes.code_name("", info.class_name), "config": "{}"},
            PromptRow: lambda row: {"token_ids": aliases.of_row(row.token_ids), "text": None},
            RunEnd: lambda end: {"sequences": tuple(map(aliases.of_row, end.sequences)), "texts": ()},
            NamedTensor: lambda tensor: {"values": self._values(tensor)},
            Intervention: self._intervention,
            ForkOrigin: self._fork,
            LayerContrast: self._contrast,
            AssistedStep: self._assisted,
            Continuation: self._token,
            Hypothesis: self._token,
            Constraint: lambda constraint: {"words": tuple(map(aliases.of_row, constraint.words))},
            ConstraintProgress: lambda reached: {
                "so_far": aliases.of_row(reached.so_far),
                "next": aliases.of_row(reached.next),
            },
            ConstraintStep: self._constraints,
            RankedCandidate: self._candidate,
        }

    def record(self, record: R) -> R:
        """A record without what it says.

        Args:
            record: any record.
        """
        kind = type(record)
        kept = _KEPT.get(kind, _NOTHING)
        update = {
            name: self._value(name, getattr(record, name), kept.get(name, _left_out))
            for name in _text_fields(kind)
        }
        if kind in self._special:
            update |= self._special[kind](record)
        return record.model_copy(update=update)

    def _value(self, name: str, value: Any, keep: Keep) -> Any:
        if isinstance(value, str) and not isinstance(value, Enum):
            return keep(name, value)
        if isinstance(value, Record):
            return self.record(value)
        if isinstance(value, tuple):
            return tuple(self._value(name, item, keep) for item in value)
        if isinstance(value, dict):
            return self._mapping(value, keep)
        return value

    def _mapping(self, mapping: Mapping[str, Any], keep: Keep) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in mapping.items():
            shown = shapes.key(name)
            places = itertools.chain([shown], (f"{shown} {number}" for number in itertools.count(2)))
            found[next(place for place in places if place not in found)] = self._value(name, value, keep)
        return found

    def _intervention(self, change: Intervention) -> dict[str, Any]:
        """A forced token by its number; a changed setting where its value is a figure."""
        if change.token is not None:
            return {"token": self._aliases.of_row((change.token,))[0]}
        if not shapes.is_figure(change.setting):
            return {"value": None}
        return {"setting": change.setting, "detail": f"{change.setting} {change.value}"}

    def _fork(self, fork: ForkOrigin) -> dict[str, Any]:
        """Tokens by their numbers."""
        token = None if fork.token is None else self._aliases.of_row((fork.token,))[0]
        return {"token": token, "banned": self._aliases.of_row(fork.banned)}

    def _contrast(self, contrast: LayerContrast) -> dict[str, Any]:
        """Tokens by their numbers."""
        return {
            "tokens": tuple(
                tuple(each.model_copy(update=self._token(each)) for each in row) for row in contrast.tokens
            )
        }

    def _constraints(self, step: ConstraintStep) -> dict[str, Any]:
        """Tokens by their numbers."""
        return {
            "constraints": tuple(map(self.record, step.constraints)),
            "advancing": tuple(map(self._aliases.of_row, step.advancing)),
            "progress": tuple(tuple(map(self.record, row)) for row in step.progress),
        }

    def _assisted(self, assisted: AssistedStep) -> dict[str, Any]:
        """Tokens by their numbers."""
        return {
            "appended": self._aliases.of_row(assisted.appended),
            "matched": self._aliases.of_row(assisted.matched),
            "proposals": tuple(map(self._proposal, assisted.proposals)),
        }

    def _proposal(self, proposal: Proposal) -> Proposal:
        token, choice = self._aliases.of_row((proposal.token, proposal.choice or 0))
        known = {"token": token, "choice": None if proposal.choice is None else choice}
        return proposal.model_copy(update=known)

    def _candidate(self, candidate: RankedCandidate) -> dict[str, Any]:
        """Its token, and the one that it is most like, by their numbers."""
        token, similar = self._aliases.of_row((candidate.token, candidate.similar or 0))
        return {"token": token, "similar": None if candidate.similar is None else similar}

    def _token(self, record: ContrastedToken | Continuation | Hypothesis) -> dict[str, Any]:
        """One token by its number."""
        return {"token": None if record.token is None else self._aliases.of_row((record.token,))[0]}

    def _values(self, tensor: NamedTensor) -> IntValues | None:
        """Values of masks and positions as they are, token ids by their numbers, nothing of other tensors."""
        if tensor.values is None or tensor.name in _PLACE_TENSORS:
            return tensor.values
        if tensor.name not in _TOKEN_TENSORS:
            return None
        values = IntValues.encode(self._aliases.of(tensor.values.decode()))
        return values.model_copy(update={"omitted": values.omitted + tensor.values.omitted})


def _anchor(anchor: Anchor) -> dict[str, Any]:
    """What it quotes of the library stays; the source of a model of somebody's own does not."""
    file = anchor.file if is_public_file(anchor.file) else LEFT_OUT
    if is_public_source(anchor):
        return {"path": "", "file": file, "text": anchor.text, "excerpt": anchor.excerpt}
    return {"path": "", "file": file, "text": LEFT_OUT, "excerpt": ()}


def _left_out(_name: str, _text: str) -> str:
    return LEFT_OUT


@lru_cache(maxsize=128)
def _text_fields(kind: type[Record]) -> tuple[str, ...]:
    """Fields that may hold a free text or token ids, themselves or in a record inside them."""
    return tuple(name for name, field in kind.model_fields.items() if _may_hold_text(field.annotation))


def _may_hold_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return False
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return bool(_text_fields(annotation)) or annotation in _HOLD_TOKENS
    return annotation is str or any(_may_hold_text(part) for part in get_args(annotation))

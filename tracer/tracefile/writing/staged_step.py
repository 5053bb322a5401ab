"""A step that is ready to be written with others in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracer.schema.run import TokenText
from tracer.schema.step import Step
from tracer.tracefile.encoding.packing import PackedStep
from tracer.tracefile.encoding.saved_tensor import SavedTensor


@dataclass(frozen=True)
class StagedStep:
    """What a step adds to a trace.

    Attributes:
        step: the step.
        packed: its row.
        digest: digest of the row.
        before: number of the step before it.
        layouts: layouts that are not in the file yet, as JSON by number.
        shapes: call shapes that are not in the file yet, as JSON by number.
        tokens: token texts that are not in the file yet.
        tensors: tensors to save, by name.
    """

    step: Step
    packed: PackedStep
    digest: bytes
    before: int
    layouts: Mapping[int, str]
    shapes: Mapping[int, str]
    tokens: Mapping[int, TokenText]
    tensors: Mapping[str, SavedTensor]

    @property
    def nbytes(self) -> int:
        """Bytes of its blobs and tensors."""
        return self.packed.nbytes + sum(tensor.nbytes for tensor in self.tensors.values())

"""The KV cache in a step of contrastive search: what the candidates find, what they add, and what stays.

It is repeated for the candidates, grows by one slot, and is cut down to the rows of those that are taken.
With ``low_memory`` it is given to one candidate after the other, each of which finds it as the last one did,
and the candidate taken is read once more. Checksums show each of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import torch

from hooks.caught_step import CaughtStep
from hooks.kv_cache.signature import NO_CACHE, CacheSignature
from tracer.schema.checks import Check, Violation


@dataclass
class CandidatesCache:
    """What the KV cache of a step goes through; lists have an entry for each forward pass of candidates.

    Attributes:
        length: slots that each row had before the candidates.
        begins_with: ``[rows, n]`` the first logits that the step before has left; None in the first step.
        repeated: the cache before the forward pass.
        grown: the same after it.
        selected: what goes into the next step.
        old: ``[2, rows · candidates, KV heads]`` checksums of the old slots of one layer.
        written: ``[2 · layers, rows · candidates, KV heads]`` checksums of the candidates' slots.
        kept: ``[2 · layers, rows, KV heads]`` checksums of the same slots of the rows taken.
        read_again: ``[rows, 1]`` the tokens taken, where another forward pass reads them.
        written_again: as ``kept``, behind that forward pass.
    """

    length: int = 0
    begins_with: torch.Tensor | None = None
    repeated: list[CacheSignature] = field(default_factory=list)
    grown: list[CacheSignature] = field(default_factory=list)
    selected: CacheSignature = NO_CACHE
    old: list[torch.Tensor] = field(default_factory=list)
    written: list[torch.Tensor] = field(default_factory=list)
    kept: torch.Tensor | None = None
    read_again: torch.Tensor | None = None
    written_again: torch.Tensor | None = None

    @property
    def before(self) -> CacheSignature:
        """The cache that the first candidates found."""
        return self.repeated[0] if self.repeated else NO_CACHE

    @property
    def after(self) -> CacheSignature:
        """The cache that the last candidates left."""
        return self.grown[-1] if self.grown else NO_CACHE

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What was taken of it, by name; by candidates, those of a row next to each other."""
        found = {
            "old": _by_candidates(self.old),
            "written": _by_candidates(self.written),
            "kept": self.kept,
            "read_again": self.read_again,
            "written_again": self.written_again,
        }
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def add_sums(self, old: torch.Tensor, written: torch.Tensor | None) -> None:
        """Add the checksums of a forward pass of candidates.

        Args:
            old: of the old slots of a layer.
            written: of the new slots; None where there are none.
        """
        self.old.append(old)
        if written is not None:
            self.written.append(written)

    def check(
        self, step: CaughtStep, places: Sequence[int], finished: Set[int]
    ) -> tuple[Check, tuple[Violation, ...]]:
        """Whether it became what the loop makes of it, and the step begins with what the one before left.

        Args:
            step: the step, on the host.
            places: of each row, the place of the candidate taken.
            finished: rows that had ended before.
        """
        total, taken = step.rows, step.tensors.loop
        if self.selected is NO_CACHE:
            return Check.not_made("selection", "what the next step begins with was not seen", total=total), ()
        wrong = [
            *self._wrong_sizes(total, taken["candidates"].shape[1]),
            *self._wrong_beginnings(step, finished),
            *_wrong_tokens(taken, places),
        ]
        summed = {"old", "written", "kept"} <= taken.keys()
        if not summed and not wrong:
            return Check.not_made("selection", "no checksums of the cache were taken", total=total), ()
        repeatable = step.ids_before.device == "cpu"
        for row in range(total) if summed else ():
            place = None if row in finished else places[row]
            problem = _moved(row, place, taken, total, repeatable=repeatable)
            if problem:
                wrong.append(Violation(check="selection", message=problem, row=row))
        check = Check.made("selection", holds=not wrong, checked=total if summed else 0, total=total)
        return check, tuple(wrong)

    def _wrong_beginnings(self, step: CaughtStep, finished: Set[int]) -> Iterator[Violation]:
        """Where the step does not begin with the logits that the candidate taken before has left."""
        if self.begins_with is None:
            return
        left, own = self.begins_with.float(), step.tensors.loop["first"].float()
        same = ((left == own) | (left.isnan() & own.isnan())).all(dim=-1).tolist()
        message = "its logits are not those of the candidate that the step before took"
        for row, fits in enumerate(same):
            if not fits and row not in finished:
                yield Violation(check="selection", message=message, row=row)

    def _wrong_sizes(self, rows: int, candidates: int) -> Iterator[Violation]:
        """Where the cache has other rows or slots than it should have."""
        # One candidate after the other finds the rows as they are.
        repeated = rows * candidates // max(1, len(self.repeated))
        expected = (
            *(("repeated", each, repeated, self.length) for each in self.repeated),
            *(("grown", each, repeated, self.length + 1) for each in self.grown),
            ("selected", self.selected, rows, self.length + 1),
        )
        for name, found, count, length in expected:
            problem = _other_size(found, count, length)
            if problem:
                yield Violation(check="selection", message=f"the {name} cache {problem}")


def joined(parts: Sequence[torch.Tensor], rows: int) -> torch.Tensor:
    """``[rows, candidates, …]`` what the forward passes of candidates gave.

    Args:
        parts: ``[rows · candidates, …]`` of the one that all are in, or ``[rows, …]`` of each candidate's.
        rows: rows of the batch.
    """
    return torch.stack([*parts], dim=1).reshape(rows, -1, *parts[0].shape[1:])


def _by_candidates(sums: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """``[m, rows · candidates, KV heads]`` checksums of all forward passes of candidates."""
    return torch.stack([*sums], dim=2).flatten(1, 2) if sums else None


def _wrong_tokens(taken: Mapping[str, torch.Tensor], places: Sequence[int]) -> Iterator[Violation]:
    """Where another token is read once more than the candidate taken."""
    if "read_again" not in taken:
        return
    again, candidates = taken["read_again"].flatten().tolist(), taken["candidates"].tolist()
    message = "the token that is read again is not the candidate taken"
    for row, (token, place) in enumerate(zip(again, places, strict=False)):
        if candidates[row][place] != token:
            yield Violation(check="selection", message=message, row=row)


def _moved(
    row: int, place: int | None, taken: Mapping[str, torch.Tensor], rows: int, *, repeatable: bool
) -> str | None:
    """What is wrong with the slots of a row; None if nothing is.

    Args:
        row: the row.
        place: place of the candidate taken; None for a row that had ended, which may take any.
        taken: the checksums.
        rows: rows of the batch.
        repeatable: whether the same forward pass gives the same bits again.
    """
    block = _of_row(taken["old"], row, rows)
    if not bool((block == block[:, :1]).all()):
        return "its candidates did not begin with the same old slots"
    kept = taken["kept"]
    if kept.shape[1] != rows:
        return None  # its size says so
    if "written_again" in taken:
        if not bool((taken["written_again"][:, row] == kept[:, row]).all()):
            return "its new slot is not that of the token that was read again"
        if not repeatable:
            return None
    equal = (_of_row(taken["written"], row, rows) == kept[:, row, None]).flatten(2).all(dim=2).all(dim=0)
    if place is None:
        return None if bool(equal.any()) else "its new slot is that of none of its candidates"
    return None if bool(equal[place]) else "its new slot is not that of the candidate taken"


def _of_row(sums: torch.Tensor, row: int, rows: int) -> torch.Tensor:
    """``[m, candidates, KV heads]`` those of the candidates of one row, of ``[m, rows · candidates, …]``."""
    return sums.reshape(len(sums), rows, -1, *sums.shape[2:])[:, row]


def _other_size(found: CacheSignature, rows: int, length: int) -> str | None:
    """How a cache differs from what it should be; None if it does not."""
    there = {key[0][0] for _, _, key, _ in found.groups}
    if there and there != {rows}:
        return f"has {', '.join(map(str, sorted(there)))} rows, expected {rows}"
    if found.length != length:
        return f"holds {found.length} slots, expected {length}"
    return None

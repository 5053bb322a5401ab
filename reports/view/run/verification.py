"""What verifications of a trace found, for every report."""

from __future__ import annotations

from collections.abc import Sequence

from reports.view.blocks import Note
from reports.view.text import plain
from tracer.schema.stamp import Stamp


def stamp_notes(stamps: Sequence[Stamp]) -> tuple[Note, ...]:
    """One line for the newest verification of each kind and run.

    Args:
        stamps: oldest first.
    """
    newest = {(found.kind, found.run): found for found in stamps}
    return tuple(
        Note(
            f"{_title(found)} on {plain(found.made_at[:10])}: {plain(found.summary)}.",
            "ok" if found.ok else "error",
        )
        for found in newest.values()
    )


def _title(found: Stamp) -> str:
    if found.kind == "file":
        return "File verified" if found.ok else "File found damaged"
    return "Verified by repetition" if found.ok else "Repetition differed"

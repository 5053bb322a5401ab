"""The release of transformers that made a run, where it is one that nothing is known of."""

from __future__ import annotations

from reports.view.blocks import Note
from reports.view.text import plain
from tracer.library.release import RELEASES, release_of
from tracer.schema.run import RunHeader


def release_notes(header: RunHeader) -> tuple[Note, ...]:
    """What a reader must know of the release; nothing about one that is known.

    Args:
        header: the run's header.
    """
    version = header.versions.get("transformers")
    if version is None or release_of(version) is not None:
        return ()
    return (
        Note(
            f"transformers {plain(version)} is none of the releases that are known; recorded like "
            f"{RELEASES[-1].versions[-1]}, so what its loop does may be told wrongly.",
            "warning",
        ),
    )

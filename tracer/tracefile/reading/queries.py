"""The SELECT statements that read a trace, per schema version.

A later version that moves or renames something adds its own set here; the sets of older versions keep
returning the columns that the reader expects. A blob whose meaning changes gets its own decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tracer.tracefile.format import CREATE_TABLES
from tracer.tracefile.reading.upgrade import head_of_version_1

_PLAIN = {
    "choice": "SELECT * FROM choice WHERE run = ? AND step = ? ORDER BY row",
    "stage": "SELECT * FROM stage WHERE run = ? AND step = ? ORDER BY row, stage",
    "violation": "SELECT * FROM violation WHERE run = ? AND step = ? ORDER BY number",
    "capture_error": "SELECT * FROM capture_error WHERE run = ? AND step = ? ORDER BY number",
}
_TOTALS = {
    "step": "SELECT count(*) FROM step WHERE run >= ?",
    "choice": "SELECT count(*) FROM choice WHERE run >= ?",
    "stage": "SELECT count(*) FROM stage WHERE run >= ?",
    "violation": "SELECT count(*) FROM violation WHERE run >= ?",
    "capture_error": "SELECT count(*) FROM capture_error WHERE run >= ?",
    "tensor": "SELECT count(*) FROM tensor WHERE run >= ? AND part = 0",
}
_INTERNED = {
    "layout": "SELECT run, layout, data, digest FROM layout",
    "call_shape": "SELECT run, shape, data, digest FROM call_shape",
}
_MISNUMBERED = {
    "run": "SELECT count(*) - coalesce(sum(run BETWEEN 1 AND (SELECT count(*) FROM run)), 0) FROM run",
    "token": "SELECT count(*) FROM token WHERE id < 0",
    "stamp": "SELECT count(*) FROM stamp WHERE number < 1",
    "layout": "SELECT count(*) FROM layout WHERE run NOT IN (SELECT run FROM run)",
    "call_shape": "SELECT count(*) FROM call_shape WHERE run NOT IN (SELECT run FROM run)",
}


@dataclass(frozen=True)
class Queries:
    """Statements of one schema version; each names the columns that it returns.

    Attributes:
        tables: the tables of a file of this version, with the statements that created them.
        plain: rows of a step in each of the tables that repeat the contents of its blobs.
        totals: number of rows of a table from a run on.
        upgrade_head: brings the head of a step to today's form; None where it has it.
        interned: all rows of the tables that steps refer to.
        misnumbered: number of rows of a table that no reader would see.
    """

    tables: Mapping[str, str] = field(default_factory=lambda: CREATE_TABLES)
    meta: str = "SELECT value FROM meta WHERE key = ?"
    all_meta: str = "SELECT key, value FROM meta"
    runs: str = "SELECT run FROM run WHERE run >= 1 ORDER BY run"
    header: str = "SELECT header, header_digest FROM run WHERE run = ?"
    ending: str = "SELECT ending, steps_digest, ending_digest FROM run WHERE run = ?"
    token: str = "SELECT id, text, piece, special, digest FROM token WHERE id = ?"  # noqa: S105
    token_ids: str = "SELECT id FROM token WHERE id >= 0 ORDER BY id"  # noqa: S105
    token_count: str = "SELECT count(*) FROM token WHERE id >= 0"  # noqa: S105
    layout: str = "SELECT data, digest FROM layout WHERE run = ? AND layout = ?"
    call_shape: str = "SELECT data, digest FROM call_shape WHERE run = ? AND shape = ?"
    step_range: str = "SELECT count(*), min(step), max(step) FROM step WHERE run = ?"
    step_numbers: str = "SELECT step FROM step WHERE run = ? ORDER BY step"
    step_size: str = (
        "SELECT length(head), length(scores), length(modules), length(cache) "
        "FROM step WHERE run = ? AND step = ?"
    )
    step: str = "SELECT tensors, digest, head, scores, modules, cache FROM step WHERE run = ? AND step = ?"
    step_columns: str = (
        "SELECT seconds, forward_seconds, sequence_length, cache_length FROM step WHERE run = ? AND step = ?"
    )
    tensor_names: str = "SELECT name FROM tensor WHERE run = ? AND step = ? AND part = 0 ORDER BY name"
    tensor_parts: str = (
        "SELECT part, dtype, shape, length(data) "
        "FROM tensor WHERE run = ? AND step = ? AND name = ? ORDER BY part"
    )
    tensor_part: str = "SELECT digest, data FROM tensor WHERE run = ? AND step = ? AND name = ? AND part = ?"
    stamps: str = "SELECT number, data, digest FROM stamp WHERE number >= 1 ORDER BY number"
    plain: Mapping[str, str] = field(default_factory=lambda: _PLAIN)
    totals: Mapping[str, str] = field(default_factory=lambda: _TOTALS)
    upgrade_head: Callable[[bytes], bytes] | None = None
    interned: Mapping[str, str] = field(default_factory=lambda: _INTERNED)
    misnumbered: Mapping[str, str] = field(default_factory=lambda: _MISNUMBERED)


VERSIONS: Final[dict[int, Queries]] = {
    1: Queries(upgrade_head=head_of_version_1),
    2: Queries(),
    3: Queries(),
    4: Queries(),
    5: Queries(),
    6: Queries(),
    7: Queries(),
}
"""Every version of :data:`tracer.tracefile.format.HISTORY`."""

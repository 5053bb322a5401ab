"""The format of a trace file: its identity, its versions and its tables.

A trace is one SQLite database. Numbers of a step are columnar blobs
(:mod:`tracer.tracefile.encoding.columns`), its metadata is JSON, and what is queried most is stored in plain
columns as well, so that any SQLite program can answer "which steps chose a token under p = 0.3?"::

    SELECT step, row, text, probability FROM choice JOIN token ON token.id = choice.token
    WHERE run = 1 AND probability < 0.3 ORDER BY step;

Every row with data of its own has a digest (BLAKE2b-64). The plain tables ``choice``, ``stage``,
``violation`` and ``capture_error`` repeat what the blobs and heads say and are compared with them by
:func:`tracer.tracefile.check_file`.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x54724765
"""``TrGe``: stored in the database header; `file(1)` and the reader recognise a trace by it."""

SCHEMA_VERSION: Final = 7
"""Stored as ``user_version``. Increase it with every change of a table, blob or record, and say why below."""

HISTORY: Final[dict[int, str]] = {
    1: "first version",
    2: "a check may not have been made; what users change and what could not be recorded have typed fields",
    3: "a run says which stops its loop has, in their order, and of which function and phase each line is",
    4: "a run says which decoding loop it is in, and its steps hold what only that loop does",
    5: "a step may hold what contrastive, group and constrained search do",
    6: "a step says how many forward passes are its own, and who wrote ids; the end of a run has checks",
    7: "the slots that a step adds to the KV cache are stored as one tensor where they are small",
}
"""Every released version. :mod:`tracer.tracefile.reading.queries` reads each of them."""

META_DIGEST: Final = "digest"
"""Key of the row of ``meta`` that holds the digest of all others and of the version."""

VERSION_OF_META_DIGEST: Final = 2
"""The first version that has it."""

PAGE_SIZE: Final = 8192
"""Bytes of a page of a new file. Each page costs SQLite as much again as the bytes of a saved tensor in it;
larger ones would leave more room unused behind the records of a step."""

MAX_BLOB: Final = 256 << 20
"""Largest blob of a step in bytes; both writer and reader refuse more."""

MAX_JSON: Final = 64 << 20
"""Largest JSON text in bytes, unpacked."""

TENSOR_PART: Final = 64 << 20
"""Tensors are stored in parts of at most this many bytes (SQLite allows 10⁹ bytes per value)."""

CREATE_TABLES: Final[dict[str, str]] = {
    # Metadata of the file: product, version, created_at, and the column names of the blobs.
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # One traced generate(). `ending` is NULL until it is over: a run without it is incomplete.
    "run": (
        "CREATE TABLE run (run INTEGER PRIMARY KEY, header TEXT NOT NULL, header_digest BLOB NOT NULL, "
        "ending TEXT, steps_digest BLOB, ending_digest BLOB)"
    ),
    "token": (
        "CREATE TABLE token (id INTEGER PRIMARY KEY, text TEXT NOT NULL, piece TEXT NOT NULL, "
        "special INTEGER NOT NULL, digest BLOB NOT NULL)"
    ),
    # Which modules a step called, and the shapes of a call: interned, so steps refer to them by number.
    "layout": (
        "CREATE TABLE layout (run INTEGER NOT NULL, layout INTEGER NOT NULL, data TEXT NOT NULL, "
        "digest BLOB NOT NULL, PRIMARY KEY (run, layout)) WITHOUT ROWID"
    ),
    "call_shape": (
        "CREATE TABLE call_shape (run INTEGER NOT NULL, shape INTEGER NOT NULL, data TEXT NOT NULL, "
        "digest BLOB NOT NULL, PRIMARY KEY (run, shape)) WITHOUT ROWID"
    ),
    # `head` is JSON, deflated where that is shorter. The small columns come first: reading them then
    # never touches the pages of the blobs. `tensors` counts the step's saved tensors.
    "step": (
        "CREATE TABLE step (run INTEGER NOT NULL, step INTEGER NOT NULL, seconds REAL, forward_seconds REAL, "
        "sequence_length INTEGER NOT NULL, cache_length INTEGER NOT NULL, tensors INTEGER NOT NULL, "
        "digest BLOB NOT NULL, head BLOB NOT NULL, scores BLOB, modules BLOB, cache BLOB, "
        "PRIMARY KEY (run, step))"
    ),
    # The token appended to a row. `candidates` had a probability above 0; `runner_up` is the most probable
    # token that was not chosen, NULL when nothing else was possible. `finished`: the row had ended before.
    "choice": (
        "CREATE TABLE choice (run INTEGER NOT NULL, step INTEGER NOT NULL, row INTEGER NOT NULL, "
        "token INTEGER NOT NULL, probability REAL, rank INTEGER NOT NULL, entropy REAL, "
        "candidates INTEGER NOT NULL, raw_logit REAL, runner_up INTEGER, runner_up_probability REAL, "
        "finished INTEGER NOT NULL, PRIMARY KEY (run, step, row)) WITHOUT ROWID"
    ),
    # Stage 0 is the raw logits, stage i the scores after the header's i-th processor.
    "stage": (
        "CREATE TABLE stage (run INTEGER NOT NULL, step INTEGER NOT NULL, row INTEGER NOT NULL, "
        "stage INTEGER NOT NULL, kept INTEGER NOT NULL, changed INTEGER NOT NULL, removed INTEGER NOT NULL, "
        "mass_removed REAL, entropy REAL, PRIMARY KEY (run, step, row, stage)) WITHOUT ROWID"
    ),
    "violation": (
        "CREATE TABLE violation (run INTEGER NOT NULL, step INTEGER NOT NULL, number INTEGER NOT NULL, "
        "proof TEXT NOT NULL, message TEXT NOT NULL, row INTEGER, module INTEGER, layer INTEGER, "
        "PRIMARY KEY (run, step, number)) WITHOUT ROWID"
    ),
    "capture_error": (
        "CREATE TABLE capture_error (run INTEGER NOT NULL, step INTEGER NOT NULL, number INTEGER NOT NULL, "
        "stop TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (run, step, number)) WITHOUT ROWID"
    ),
    # Lossless tensors: `data` holds the little-endian values in row-major order, part after part.
    "tensor": (
        "CREATE TABLE tensor (run INTEGER NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL, "
        "part INTEGER NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL, digest BLOB NOT NULL, "
        "data BLOB NOT NULL, PRIMARY KEY (run, step, name, part))"
    ),
    # Results of later verifications; the only table that grows after a run.
    "stamp": ("CREATE TABLE stamp (number INTEGER PRIMARY KEY, data TEXT NOT NULL, digest BLOB NOT NULL)"),
}
"""CREATE statement by table name. A file must hold exactly these: no other table, no view, no trigger."""

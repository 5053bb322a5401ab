"""Traces in which single values were altered and every digest made to fit: what a person could have made.

Random bytes only show that digests work. Here a record or column says something else, and nothing but what
readers themselves require of it stands in the way.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from tracer.tracefile.encoding.columns import CACHE, MODULES, SCORES, ColumnSet
from tracer.tracefile.encoding.digests import DigestChain, digest
from tracer.tracefile.encoding.packing import PackedStep, unpack_step
from tracer.tracefile.encoding.plain_rows import plain_rows, step_columns

_NUMBERS = (-1, 0, 1, 2, 7, 99, 100, 10**6, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, -(2**63), 10**30)
_REALS = ("NaN", "Infinity", "-Infinity", -1.0, 0.0, 1e308, 1e-308, 1e30)
_TEXTS = ("", "x" * 300, "\x1b[2J", "[2147483648]", "-5", "1e400", "nan", "()", "None", "\n", "\u202e", "0")
_INT32 = (-2, -1, 0, 1, 5, 99, 100, 101, 2048, 2**31 - 1, -(2**31))
_FLOAT32 = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e38, 1e-40)
_SETS: dict[str, ColumnSet[Any]] = {"scores": SCORES, "modules": MODULES, "cache": CACHE}


class Alteration:
    """An open trace whose records can be changed; leaving the block makes the digests fit.

    Args:
        path: the trace; changed in place.
        seed: decides what is changed, and to what.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._file = sqlite3.connect(path, isolation_level=None)
        self.what = ""

    def __enter__(self) -> Alteration:
        self._file.execute("BEGIN")
        return self

    def __exit__(self, *error: object) -> None:
        if not any(error):
            sign(self._file)
            self._file.execute("COMMIT")
        self._file.close()

    def change(self) -> None:
        """Change one value of one record, column or table; :attr:`what` then says which."""
        kinds: list[tuple[Callable[[], str], int]] = [
            (self._header, 4),
            (self._ending, 2),
            (self._head, 6),
            (self._interned, 1),
            (self._columns, 6),
            (self._tensor, 3),
            (self._token, 1),
            (self._stamp, 1),
            (self._row, 1),
        ]
        kind = self._random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        with contextlib.suppress(LookupError):
            self.what = f"{self.what}; {kind()}" if self.what else kind()

    def _pick(self, statement: str) -> tuple[Any, ...]:
        rows = self._file.execute(statement).fetchall()
        if not rows:
            raise LookupError("an alteration before has left nothing to choose from")
        row: tuple[Any, ...] = self._random.choice(rows)
        return row

    def _header(self) -> str:
        run, text = self._pick("SELECT run, header FROM run")
        changed, what = self._changed_json(text)
        self._file.execute("UPDATE run SET header = ? WHERE run = ?", (changed, run))
        return f"header {what}"

    def _ending(self) -> str:
        run, text = self._pick("SELECT run, ending FROM run WHERE ending IS NOT NULL")
        changed, what = self._changed_json(text)
        self._file.execute("UPDATE run SET ending = ? WHERE run = ?", (changed, run))
        return f"ending {what}"

    def _stamp(self) -> str:
        number, text = self._pick("SELECT number, data FROM stamp")
        changed, what = self._changed_json(text)
        self._file.execute("UPDATE stamp SET data = ? WHERE number = ?", (changed, number))
        return f"stamp {what}"

    def _head(self) -> str:
        run, step, head = self._pick("SELECT run, step, head FROM step")
        text = head if head[:1] == b"{" else zlib.decompress(head)
        changed, what = self._changed_json(text)
        self._file.execute(
            "UPDATE step SET head = ? WHERE run = ? AND step = ?", (changed.encode(), run, step)
        )
        return f"head of run {run}, step {step} {what}"

    def _interned(self) -> str:
        table, key = self._random.choice([("layout", "layout"), ("call_shape", "shape")])
        run, number, text = self._pick(f"SELECT run, {key}, data FROM {table}")
        changed, what = self._changed_json(text)
        self._file.execute(f"UPDATE {table} SET data = ? WHERE run = ? AND {key} = ?", (changed, run, number))
        return f"{table} {number} {what}"

    def _columns(self) -> str:
        column = self._random.choice(["scores", "scores", "scores", "modules", "cache"])
        run, step, blob = self._pick(f"SELECT run, step, {column} FROM step WHERE {column} IS NOT NULL")
        record = _SETS[column].unpack(blob)
        arrays = {field.name: np.array(getattr(record, field.name)) for field in fields(record)}
        name = self._random.choice(sorted(arrays))
        array = arrays[name]
        if self._random.random() < 0.25:
            what = self._resize(_SETS[column], arrays)
        elif array.size:
            place = self._random.randrange(array.size)
            value = self._value_for(array)
            array.reshape(-1)[place] = value
            what = f"{name}.flat[{place}] = {value}"
        else:
            what = f"{name} is empty"
        changed = _SETS[column].pack(type(record)(**arrays))
        self._file.execute(f"UPDATE step SET {column} = ? WHERE run = ? AND step = ?", (changed, run, step))
        return f"{column} of run {run}, step {step}: {what}"

    def _value_for(self, array: Any) -> Any:
        if array.dtype.kind == "b":
            return self._random.random() < 0.5
        return self._random.choice(_INT32 if array.dtype.kind == "i" else _FLOAT32)

    def _resize(self, columns: ColumnSet[Any], arrays: dict[str, Any]) -> str:
        """Give one dimension another size, everywhere."""
        letter = self._random.choice(
            sorted({letter for _, _, letters in columns.columns for letter in letters})
        )
        drop = self._random.random() < 0.5
        for name, _, letters in columns.columns:
            if letter in letters and (arrays[name].shape[letters.index(letter)] or not drop):
                axis = letters.index(letter)
                size = arrays[name].shape[axis]
                wanted = range(size - 1) if drop else [*range(size), 0] if size else []
                if wanted or drop:
                    arrays[name] = np.take(arrays[name], list(wanted), axis=axis)
        return f"{letter} {'smaller' if drop else 'larger'}"

    def _tensor(self) -> str:
        run, step, name, part, dtype, shape, data = self._pick(
            "SELECT run, step, name, part, dtype, shape, data FROM tensor"
        )
        key = (run, step, name, part)
        way = self._random.randrange(4)
        if way == 0:
            array = np.frombuffer(bytearray(data), dtype=np.uint8)
            width = 4 if len(data) % 4 == 0 else 1
            values = array.view("<i4") if width == 4 else array
            if values.size:
                place = self._random.randrange(values.size)
                values[place] = self._random.choice(_INT32) if width == 4 else 255
            data = array.tobytes()
        elif way == 1:
            sizes = json.loads(shape)
            self._random.shuffle(sizes)
            shape = json.dumps(self._random.choice([sizes, [1, *sizes], [int(np.prod(sizes))], [0, *sizes]]))
        elif way == 2:
            dtype = self._random.choice(
                ["int32", "float32", "bool", "float16", "complex64", "int64", "object"]
            )
        else:
            name = self._random.choice(
                ["logits", "lens/tokens", "lens/rank", "attention/0", "attention/99999999999", "kv/0/key", ""]
            )
        with contextlib.suppress(sqlite3.IntegrityError):
            self._file.execute(
                "UPDATE tensor SET name = ?, dtype = ?, shape = ?, data = ? "
                "WHERE run = ? AND step = ? AND name = ? AND part = ?",
                (name, dtype, shape, data, *key),
            )
        return f"tensor {key}: {name} {dtype} {shape}"

    def _token(self) -> str:
        (token,) = self._pick("SELECT id FROM token")
        if self._random.random() < 0.5:
            text = self._random.choice(_TEXTS)
            self._file.execute("UPDATE token SET text = ?, piece = ? WHERE id = ?", (text, text, token))
            return f"token {token} = {text!r}"
        other = self._random.choice([-5, 2**31, 2**62, 10**6])
        with contextlib.suppress(sqlite3.IntegrityError):
            self._file.execute("UPDATE token SET id = ? WHERE id = ?", (other, token))
        return f"token {token} is {other}"

    def _row(self) -> str:
        statement = self._random.choice(
            [
                "DELETE FROM step WHERE step = 1",
                "DELETE FROM step WHERE step = 2",
                "UPDATE step SET step = step + 1000000 WHERE step = 3",
                "UPDATE step SET scores = NULL WHERE step = 2",
                "UPDATE step SET modules = NULL",
                "UPDATE step SET cache = NULL WHERE step = 1",
                "UPDATE step SET tensors = 1000000000 WHERE step = 1",
                "DELETE FROM token",
                "UPDATE run SET ending = NULL, steps_digest = NULL, ending_digest = NULL",
                "DELETE FROM run WHERE run = 1",
                "UPDATE run SET run = run + 1000",
                "DELETE FROM layout",
                "DELETE FROM tensor WHERE part = 0",
            ]
        )
        self._file.execute(statement)
        return statement

    def _changed_json(self, text: str | bytes) -> tuple[str, str]:
        tree = json.loads(text)
        path: list[Any] = []
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = self._random.choice(keys)
            path.append(key)
            inner = node[key]
            if not isinstance(inner, dict | list) or not inner or self._random.random() < 0.06:
                break
            node = inner
        node[key] = self._other(inner)
        return json.dumps(tree), f"{'.'.join(map(str, path))}: {str(inner)[:40]} -> {str(node[key])[:40]}"

    def _other(self, value: Any) -> Any:
        choose = self._random.choice
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return choose([*_NUMBERS, value + 1, value - 1, value * 2])
        if isinstance(value, float):
            return choose(_REALS)
        if isinstance(value, str):
            return choose([*_TEXTS, value[:-1], value * 2])
        if value is None:
            return choose([0, -1, "x", 1.5, [], 2**31])
        if isinstance(value, list):
            return choose([[], value[:-1], [*value, *value], value[::-1], [*value, value[0] if value else 0]])
        return choose([{}, dict(list(value.items())[:-1])])


def sign(file: sqlite3.Connection) -> None:
    """Make all digests and plain rows fit what the file says."""
    for token, text, piece, special in file.execute("SELECT id, text, piece, special FROM token").fetchall():
        file.execute("UPDATE token SET digest = ? WHERE id = ?", (digest(token, text, piece, special), token))
    for number, data in file.execute("SELECT number, data FROM stamp").fetchall():
        file.execute("UPDATE stamp SET digest = ? WHERE number = ?", (digest("stamp", data), number))
    for table, key in (("layout", "layout"), ("call_shape", "shape")):
        for run, number, data in file.execute(f"SELECT run, {key}, data FROM {table}").fetchall():
            file.execute(
                f"UPDATE {table} SET digest = ? WHERE run = ? AND {key} = ?",
                (digest(run, number, data), run, number),
            )
    for *key, dtype, shape, data in file.execute(
        "SELECT run, step, name, part, dtype, shape, data FROM tensor"
    ).fetchall():
        file.execute(
            "UPDATE tensor SET digest = ? WHERE run = ? AND step = ? AND name = ? AND part = ?",
            (digest(*key, dtype, shape, data), *key),
        )
    for run, header, ending in file.execute("SELECT run, header, ending FROM run").fetchall():
        signed = digest(run, header)
        file.execute("UPDATE run SET header_digest = ? WHERE run = ?", (signed, run))
        chain = _sign_steps(file, run, DigestChain(signed))
        if ending is not None:
            file.execute(
                "UPDATE run SET steps_digest = ?, ending_digest = ? WHERE run = ?",
                (chain, digest(run, chain, ending), run),
            )


def _sign_steps(file: sqlite3.Connection, run: int, chain: DigestChain) -> bytes:
    rows = file.execute(
        "SELECT step, tensors, head, scores, modules, cache FROM step WHERE run = ? ORDER BY step", (run,)
    ).fetchall()
    for row in rows:
        packed = PackedStep(run, *row)
        chain.add(packed.digest)
        file.execute(
            "UPDATE step SET digest = ? WHERE run = ? AND step = ?", (packed.digest, run, packed.step)
        )
        # What cannot be decoded has no plain rows; readers refuse it before they compare them.
        with contextlib.suppress(Exception):
            _rewrite_plain(file, packed)
    return chain.value()


def _rewrite_plain(file: sqlite3.Connection, packed: PackedStep) -> None:
    step = unpack_step(packed)
    key = (packed.run, packed.step)
    file.execute(
        "UPDATE step SET seconds = ?, forward_seconds = ?, sequence_length = ?, cache_length = ? "
        "WHERE run = ? AND step = ?",
        (*step_columns(step.head), *key),
    )
    for table, rows in plain_rows(step).items():
        file.execute(f"DELETE FROM {table} WHERE run = ? AND step = ?", key)
        for row in rows:
            file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

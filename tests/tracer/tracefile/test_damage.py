"""Hostile and damaged files: one clear line, never a crash, a hang or a huge allocation."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracer.tracefile.samples import header, some_tokens, steps, tensors, with_faults
from tracer.errors import TraceFileError
from tracer.schema.step import StepHead
from tracer.tracefile import TraceFile, TraceWriter, check_file
from tracer.tracefile.encoding.columns import MODULES
from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.encoding.packing import PackedStep
from tracer.tracefile.format import APPLICATION_ID, PAGE_SIZE


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "run.trace"
    with TraceWriter(path) as writer:
        writer.begin_run(header(2))
        for step in steps(4, rows=2):
            writer.write_step(with_faults(step), some_tokens(), tensors())
    return path


@pytest.fixture
def damaged(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "run.trace"))


def read_everything(path: Path) -> None:
    """Look at all that a report could look at."""
    with TraceFile(path) as recording:
        repr(recording)
        for run in recording.runs:
            repr(run.end)
            for step in run.steps:
                for row in range(step.rows):
                    step.choice(row)
                    step.candidates_of(row)
                for tensor in step.head.inputs.tensors:
                    if tensor.values is not None:
                        tensor.values.decode()
                for name in run.tensor_names(step.number):
                    run.tensor(step.number, name)
            assert run.stamps == ()
        list(recording.tokens.items())


def must_be_clear(path: Path) -> None:
    """Reading works or ends with one clear line, and so does checking."""
    for use in (read_everything, check_file):
        message = complaint(use, path)
        assert message is None or ("\n" not in message and path.name in message)


def complaint(use: Callable[[Path], object], path: Path) -> str | None:
    """The message with which reading ended, None if it worked."""
    try:
        use(path)
    except TraceFileError as error:
        return str(error)
    return None


def raises_clearly(path: Path, match: str) -> None:
    with pytest.raises(TraceFileError, match=match) as caught:
        read_everything(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.with_suffix(".other").touch(), "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: os.mkfifo(path), "not an ordinary file"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.symlink_to(path), "cannot read"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: path.symlink_to("/dev/zero"), "not an ordinary file"),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), "not a trace file"),
        (lambda path: path.write_bytes(random.Random(1).randbytes(100_000)), "not a trace file"),
        (lambda path: path.write_text("x" * 50_000), "not a trace file"),
    ],
)
def test_what_is_no_trace(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "run.trace"
    make(path)
    raises_clearly(path, message)


def test_a_name_with_control_characters_stays_on_one_line(tmp_path: Path) -> None:
    raises_clearly(tmp_path / "a\nb\x1b[31m.trace", "no such file: .*a b")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "run.trace")
    connection.execute("CREATE TABLE step (x)")
    connection.close()
    raises_clearly(tmp_path / "run.trace", "database of another program")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("PRAGMA user_version = 8", "written by a newer trace-generate .*format 8, this one reads up to 7"),
        ("PRAGMA user_version = 0", "unknown format version 0"),
        ("PRAGMA user_version = -5", "unknown format version -5"),
        ("DROP TABLE stage", "lacks the table stage"),
        ("CREATE TABLE extra (x)", "unexpected table extra"),
        ("CREATE INDEX extra ON step (seconds)", "unexpected index extra"),
        ("CREATE VIEW evil AS SELECT 1", "unexpected view evil"),
        ('CREATE VIEW "a\nb" AS SELECT 1', "unexpected view a b"),
        ("DROP TABLE step; CREATE VIEW step AS SELECT 1 AS run", "unexpected view step"),
        ("CREATE TRIGGER evil AFTER INSERT ON stamp BEGIN DELETE FROM run; END", "unexpected trigger evil"),
        ("ALTER TABLE token ADD COLUMN more", "unexpected table token"),
        ("DROP TABLE meta; CREATE TABLE meta (key, value)", "unexpected table meta"),
        ("DELETE FROM meta", "does not say its version"),
        ("UPDATE meta SET value = x'00ff' WHERE key = 'version'", "wrong type"),
        ("UPDATE run SET header = x'00ff'", "wrong type"),
        ("UPDATE run SET header = CAST(x'ff41' AS TEXT)", "is damaged"),
        ("UPDATE run SET header = '{}'", "not what was written"),
        ("UPDATE run SET ending = '{}'", "the end of run 1"),
        ("UPDATE run SET run = 9223372036854775807", "header of run 9223372036854775807"),
        ("UPDATE step SET head = 'text' WHERE step = 2", "wrong type"),
        ("UPDATE step SET head = x'' WHERE step = 2", "step 2 of run 1 is not what was written"),
        ("UPDATE step SET tensors = 'x' WHERE step = 2", "wrong type"),
        ("UPDATE step SET digest = NULL WHERE 0; UPDATE step SET digest = 5 WHERE step = 2", "wrong type"),
        ("DELETE FROM layout", "layout 1 is missing"),
        ("DELETE FROM call_shape", "call shape 1 is missing"),
        ("UPDATE tensor SET shape = '[1e9]'", "its shape cannot be read"),
        ("UPDATE tensor SET shape = '[12.0]'", "its shape cannot be read"),
        ("UPDATE tensor SET shape = '[true]'", "its shape cannot be read"),
        ("UPDATE tensor SET shape = '{'", "tensor hidden/0 of step 1"),
        ("UPDATE tensor SET shape = '[99999999999999999999]'", "its shape cannot be read"),
        ("UPDATE tensor SET shape = '[4611686018427387904, 4611686018427387904]'", "differ in size"),
        ("UPDATE tensor SET dtype = 'object'", "unknown kind of tensor"),
        ("UPDATE tensor SET data = zeroblob(length(data))", "not what was written"),
        ("UPDATE tensor SET shape = replace('[' || hex(zeroblob(50000)) || ']', '00', '[')", "tensor hidden"),
        ("UPDATE token SET text = 'other' WHERE id = 3", "token 3 is not what was written"),
        ("UPDATE token SET text = x'41' WHERE id = 3", "wrong type"),
        ("INSERT INTO stamp (data, digest) VALUES ('{}', x'00')", "stamp 1"),
    ],
)
def test_a_changed_database(damaged: Path, script: str, message: str) -> None:
    connection = sqlite3.connect(damaged)
    connection.executescript(script)
    connection.close()
    raises_clearly(damaged, message)
    must_be_clear(damaged)


def forge(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the stored form of step 2 and give it the digest that fits."""
    connection = sqlite3.connect(path)
    columns = ("tensors", "head", "scores", "modules", "cache")
    row = connection.execute(f"SELECT {', '.join(columns)} FROM step WHERE step = 2").fetchone()
    fields: dict[str, object] = dict(zip(columns, row, strict=True))
    change(fields)
    packed = PackedStep(run=1, step=2, **fields)  # type: ignore[arg-type]
    connection.execute(
        f"UPDATE step SET {', '.join(f'{column} = ?' for column in columns)}, digest = ? WHERE step = 2",
        (*fields.values(), packed.digest),
    )
    connection.commit()
    connection.close()


def forge_head(path: Path, update: dict[str, object]) -> None:
    def change(fields: dict[str, object]) -> None:
        head = StepHead.model_validate_json(zlib.decompress(fields["head"]))  # type: ignore[arg-type]
        text = head.model_copy(update=update).model_dump_json(warnings=False)
        fields["head"] = text.encode()

    forge(path, change)


def test_a_forged_head_is_still_checked(sample: Path, damaged: Path) -> None:
    head = steps(2, rows=2)[1].head
    info, inputs = head.ids_before, head.inputs
    huge = info.model_copy(update={"shape": (1 << 200,) * 60})
    group = head.cache_after.groups[0].model_copy(update={"last": 10**12})
    many_layers = head.cache_after.model_copy(update={"groups": (group,)})
    values = inputs.tensors[0].values
    assert values is not None
    long = inputs.tensors[0].model_copy(
        update={"values": values.model_copy(update={"runs": ((0, 1, 10**13),)})}
    )
    cases: list[tuple[dict[str, object], str]] = [
        ({"step": 3}, "belongs to another step"),
        ({"ids_before": info.model_copy(update={"shape": ()})}, "differ in rows"),
        ({"ids_before": info.model_copy(update={"shape": (10**9, 3)})}, "differ in rows"),
        ({"ids_after": huge}, "impossible size"),
        ({"ids_after": info.model_copy(update={"shape": (1,) * 1000})}, "too many dimensions"),
        ({"stages": 9}, "more stages"),
        ({"stages": 2}, "scores and head differ"),
        ({"layout": 10**30}, f"layout {10**30} is missing"),
        ({"layout": 77}, "layout 77 is missing"),
        ({"unfinished": (2,)}, "unknown row"),
        ({"criteria": (head.criteria[0].model_copy(update={"index": -1}),)}, "unknown stopping criterion"),
        ({"cache_after": many_layers}, "impossible layers"),
        ({"inputs": inputs.model_copy(update={"new_start": -1})}, "impossible positions"),
        ({"inputs": inputs.model_copy(update={"sequence_length": 1 << 60})}, "impossible positions"),
        ({"inputs": inputs.model_copy(update={"tensors": (long,)})}, "claims too many values"),
        ({"seconds": "soon"}, "seconds: "),
    ]
    for update, message in cases:
        forge_head(damaged, update)
        with TraceFile(damaged) as recording, pytest.raises(TraceFileError, match=message) as caught:
            recording.steps.number(2)
        assert "\n" not in str(caught.value)
        shutil.copy(sample, damaged)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("head", zlib.compress(b" " * (80 << 20), 9), "cut off or too large"),
        ("head", zlib.compress(b'{"a":' * 100_000, 1), "step 2 of run 1"),
        ("head", zlib.compress(b"{" * 10)[:-3], "cut off or too large"),
        ("head", zlib.compress(b"{}") + b"more", "cut off or too large"),
        ("head", b"{" + b"\xff" * 10, "step 2 of run 1"),
        ("head", b"", "step 2 of run 1"),
        ("head", b"\x80\x04\x95", "cannot be unpacked"),
        ("scores", b"", "wrong number of columns"),
        ("scores", b"\x0f", "cut off"),
        ("modules", b"\x06" + struct.pack("<cBBI", b"i", 1, 1, 2**32 - 1) * 6, "wrong type|cut off"),
        ("cache", b"\x02" + struct.pack("<cBB4I", b"f", 0, 4, *(2**32 - 1,) * 4) * 2, "cut off"),
    ],
)
def test_forged_blobs_allocate_little(damaged: Path, part: str, value: bytes, message: str) -> None:
    forge(damaged, lambda fields: fields.update({part: value}))
    tracemalloc.start()
    try:
        raises_clearly(damaged, message)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_a_field_that_this_version_does_not_know_is_refused(damaged: Path) -> None:
    text = steps(2, rows=2)[1].head.model_dump_json()
    forge(damaged, lambda fields: fields.update(head=b'{"evil":1,' + text[1:].encode()))
    raises_clearly(damaged, "evil: Extra inputs are not permitted")


def test_a_forged_shape_number_is_looked_up_and_refused(damaged: Path) -> None:
    def change(fields: dict[str, object]) -> None:
        columns = MODULES.unpack(fields["modules"])  # type: ignore[arg-type]
        columns.shapes.flags.writeable = True
        columns.shapes[0] = -7
        fields["modules"] = MODULES.pack(columns)

    forge(damaged, change)
    raises_clearly(damaged, "call shape -7 is missing")


def test_a_forged_header_is_still_checked(damaged: Path) -> None:
    model = header(2).model.model_copy(update={"layers": 10**12})
    text = header(2).model_copy(update={"model": model}).model_dump_json()
    connection = sqlite3.connect(damaged)
    connection.execute("UPDATE run SET header = ?, header_digest = ?", (text, digest(1, text)))
    connection.commit()
    connection.close()
    raises_clearly(damaged, "impossible number of layers")


def test_tables_that_run_in_circles_are_left(damaged: Path) -> None:
    """An interior page whose children are the page itself would be walked for ever."""
    page_size = PAGE_SIZE
    connection = sqlite3.connect(damaged)
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'token'").fetchone()[0]
    connection.close()
    data = bytearray(damaged.read_bytes())
    pages = len(data) // page_size
    # A ladder of interior pages: every cell of a page leads to the next page, 8 levels of 400 cells.
    levels = [root, *range(pages + 1, pages + 9)]
    data += bytes(page_size * 8)
    for level, page in enumerate(levels):
        child = levels[level + 1] if level + 1 < len(levels) else None
        data[(page - 1) * page_size : page * page_size] = _page(page_size, child)
    data[28:32] = (pages + 8).to_bytes(4, "big")
    damaged.write_bytes(data)
    with TraceFile(damaged) as recording:
        with pytest.raises(TraceFileError, match=r"in circles|damaged"):
            len(recording.tokens)
        with pytest.raises(TraceFileError, match=r"in circles|damaged"):
            list(recording.tokens)
    assert not check_file(damaged).ok


def _page(size: int, child: int | None) -> bytes:
    """A table page: interior with many equal children, or a leaf with one row."""
    if child is None:
        cell = b"\x02\x05\x02\x00"  # 2 bytes of payload, row 5, a header of one column: NULL
        start = size - len(cell)
        head = struct.pack(">BHHHBH", 13, 0, 1, start, 0, start)
        return head + bytes(start - len(head)) + cell
    cells = 400
    cell = child.to_bytes(4, "big") + b"\x05"
    start = size - cells * len(cell)
    pointers = b"".join(struct.pack(">H", start + number * len(cell)) for number in range(cells))
    head = struct.pack(">BHHHBI", 5, 0, cells, start, 0, child) + pointers
    return head + bytes(start - len(head)) + cell * cells


def test_a_truncated_file(sample: Path, tmp_path: Path) -> None:
    data = sample.read_bytes()
    for size in [*range(0, 200, 13), *range(200, len(data), len(data) // 40)]:
        path = tmp_path / "run.trace"
        path.write_bytes(data[:size])
        with pytest.raises(TraceFileError):
            read_everything(path)
        must_be_clear(path)


def mutate(data: bytearray, rng: random.Random) -> None:
    """One of the ways in which a file goes bad."""
    place = rng.randrange(len(data))
    kind = rng.randrange(5)
    if kind == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[place : place + 4] = rng.randbytes(4)
    elif kind == 2:
        length = rng.randrange(1, PAGE_SIZE)
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == 3:  # one page in the place of another
        page, other = rng.randrange(len(data) // PAGE_SIZE), rng.randrange(len(data) // PAGE_SIZE)
        data[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = data[other * PAGE_SIZE : (other + 1) * PAGE_SIZE]
    else:  # the head of a page, where SQLite keeps its pointers
        page = rng.randrange(len(data) // PAGE_SIZE) * PAGE_SIZE + (100 if place < PAGE_SIZE else 0)
        data[page + rng.randrange(24)] = rng.randrange(256)


def fuzz(sample: Path, folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    original = sample.read_bytes()
    path = folder / "run.trace"
    for _ in range(rounds):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 8])):
            mutate(data, rng)
        path.write_bytes(data)
        must_be_clear(path)


def test_random_damage(sample: Path, tmp_path: Path) -> None:
    fuzz(sample, tmp_path, 150, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_much_random_damage(sample: Path, tmp_path: Path, seed: int) -> None:
    fuzz(sample, tmp_path, 1000, seed)


def test_damage_in_the_log_of_a_killed_run(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "source.trace")
    writer.begin_run(header())
    for step in steps(3):
        writer.write_step(step, some_tokens())
    main, log = ((tmp_path / f"source.trace{suffix}").read_bytes() for suffix in ("", "-wal"))
    writer.close()
    rng = random.Random(0)
    for number in range(40):
        path = tmp_path / f"{number}.trace"
        path.write_bytes(main)
        broken = bytearray(log[: rng.randrange(len(log))] if number % 2 else log)
        for _ in range(3):
            if broken:
                broken[rng.randrange(len(broken))] ^= 0x55
        path.with_name(path.name + "-wal").write_bytes(broken)
        must_be_clear(path)
        with TraceFile(path) as recording:  # SQLite takes what is whole and leaves the rest
            for run in recording.runs:
                assert [step.number for step in run.steps] == list(range(1, len(run.steps) + 1))


@given(st.binary(max_size=2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_bytes_behind_a_header(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "run.trace"
    start = bytearray(b"SQLite format 3\0" + bytes(84))
    start[16:24] = bytes([16, 0, 1, 1, 0, 64, 32, 32])
    start[68:72] = APPLICATION_ID.to_bytes(4, "big")
    start[63] = 1
    path.write_bytes(bytes(start) + rest)
    must_be_clear(path)


def test_a_sparse_giant_is_refused_quickly(damaged: Path) -> None:
    with damaged.open("r+b") as file:
        file.truncate(1 << 40)
    must_be_clear(damaged)


def test_saved_arrays_cannot_be_objects(damaged: Path) -> None:
    with TraceFile(damaged) as recording:
        array = recording.runs[0].tensor(1, "logits")
        assert array.dtype == np.float32

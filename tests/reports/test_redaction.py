"""Nothing that a run says is in a redacted report: a secret in any text and any id of its records is gone.

The records are poisoned by their own schema, so a field that is added later is tested from then on.
"""

from __future__ import annotations

import base64
import io
import json
import re
import string
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from reports.export.csv_file import write_csv
from reports.export.jsonl_file import write_jsonl
from reports.export.tables import TABLES
from reports.html import render_page
from reports.redaction import Aliases, redacted_runs, shapes
from reports.redaction.records import Redactor
from reports.redaction.shapes import LEFT_OUT
from reports.terminal import TerminalReport
from tests.reports.html.samples import make_trace
from tests.support.command import call_main
from tests.support.models import tiny_model
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tests.support.synthetic_dola import dola_header, dola_steps
from tracer.schema.assisted import AssistedStep, Proposal
from tracer.schema.base import Record
from tracer.schema.beams import (
    BeamRow,
    BeamStep,
    Constraint,
    ConstraintProgress,
    ConstraintStep,
    Continuation,
    Hypothesis,
)
from tracer.schema.cache import CacheState
from tracer.schema.calls import CallShape
from tracer.schema.changes import Intervention
from tracer.schema.checks import Violation
from tracer.schema.faults import CaptureError, Failure, Uncaptured
from tracer.schema.fork import ForkOrigin
from tracer.schema.ranking import ContrastiveStep, RankedCandidate, RowRanking
from tracer.schema.run import (
    AdapterInfo,
    CheckpointFaults,
    RunEnd,
    RunHeader,
    RunStatus,
    TokenText,
    WeightsFingerprint,
)
from tracer.schema.stamp import Stamp
from tracer.schema.step import PromptPass, Step, StepHead
from tracer.tracefile import FileInfo

R = TypeVar("R", bound=Record)

FAR = 70_000_000
"""Added to every token id, so that none looks like a figure."""


def may_hold_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return False
    return annotation is str or any(may_hold_text(part) for part in get_args(annotation))


def poisoned(record: R, secret: str, only: str | None = None) -> R:
    """The record with the secret in every free text inside it, or in those of one field ``Class.field``."""
    update = {}
    for name, info in type(record).model_fields.items():
        here = may_hold_text(info.annotation) and only in (None, f"{type(record).__name__}.{name}")
        update[name] = changed(getattr(record, name), secret, only, texts=here)
    return record.model_copy(update=update)


def changed(value: Any, secret: str, only: str | None, *, texts: bool) -> Any:
    if isinstance(value, Record):
        return poisoned(value, secret, only)
    if isinstance(value, tuple):
        return tuple(changed(item, secret, only, texts=texts) for item in value)
    if not texts or isinstance(value, Enum):
        return value
    if isinstance(value, dict):
        found = {key: changed(item, secret, only, texts=texts) for key, item in value.items()}
        return {**found, "setting": secret, secret: "1"}
    return secret if isinstance(value, str) or value is None else value


def text_fields(kind: type[Record], seen: set[type[Record]] | None = None) -> Iterator[str]:
    """All free texts of a record and the records inside it, as ``Class.field``."""
    seen = set() if seen is None else seen
    if kind in seen:
        return
    seen.add(kind)
    for name, info in kind.model_fields.items():
        if may_hold_text(info.annotation):
            yield f"{kind.__name__}.{name}"
        for inner in records_in(info.annotation):
            yield from text_fields(inner, seen)


def records_in(annotation: Any) -> Iterator[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
    for part in get_args(annotation):
        yield from records_in(part)


KINDS: tuple[type[Record], ...] = (RunHeader, StepHead, CallShape, RunEnd, Stamp)
FIELDS = sorted({name for kind in KINDS for name in text_fields(kind)})


@dataclass
class SecretRun:
    """A run in memory whose every text is a secret and whose token ids are far away from any figure."""

    header: RunHeader
    steps: StepList
    tokens: Mapping[int, TokenText]
    end: RunEnd | None
    stamps: tuple[Stamp, ...]
    number: int = 1
    saved: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def tensor_names(self, step: int) -> tuple[str, ...]:
        return tuple(self.saved)

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        return self.saved[name]

    def tensor_layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        return "float32", self.saved[name].shape


class StepList(list[Step]):
    @property
    def numbers(self) -> list[int]:
        return [step.number for step in self]

    def number(self, number: int) -> Step:
        return next(step for step in self if step.number == number)


def far(ids: Any) -> Any:
    return np.where(np.asarray(ids) < 0, ids, np.asarray(ids) + FAR).astype(np.asarray(ids).dtype)


def secret_run(secret: str, only: str | None = None) -> SecretRun:
    header = dola_header(rows=2, layers=2)
    faults = CheckpointFaults(missing=("",), unexpected=("",), mismatched=("",), generation_config="")
    checkpoint = {"adapters": (AdapterInfo(name="", kind="", base=""),), "checkpoint_faults": faults}
    header = header.model_copy(update={"model": header.model.model_copy(update=checkpoint)})
    steps = StepList(secret_step(step, secret, only) for step in dola_steps(header, 3))
    ended = synthetic_end(header, 3).model_copy(
        update={"status": RunStatus.FAILED, "texts": ("", ""), "error": "", "ended_by": ""}
    )
    end = ended.model_copy(
        update={"sequences": tuple(tuple(int(i) for i in far(row)) for row in ended.sequences)}
    )
    prompt = tuple(
        row.model_copy(update={"token_ids": tuple(int(i) for i in far(row.token_ids))})
        for row in header.prompt
    )
    config = {**header.generation_config, "eos_token_id": str(7 + FAR), "forced": str(8 + FAR)}
    criteria = tuple(
        item.model_copy(update={"settings": {**item.settings, "token": f"{9 + FAR}.0"}})
        for item in header.criteria
    )
    header = header.model_copy(update={"prompt": prompt, "generation_config": config, "criteria": criteria})
    header = header.model_copy(update={"weights": WeightsFingerprint(digest="", not_taken="")})
    fork = ForkOrigin(trace="", run=1, step=2, token=13 + FAR, banned=(14 + FAR,), settings={"own": ""})
    header = header.model_copy(update={"fork": fork})
    header = header.model_copy(update={"capture": header.capture.model_copy(update={"save": ("logits",)})})
    stamp = Stamp(kind="file", ok=False, made_at="", summary="", details={"ids": ""})
    texts = {
        token + FAR: text.model_copy(update={"id": token + FAR}) for token, text in synthetic_tokens().items()
    }
    return SecretRun(
        poisoned(header, secret, only),
        steps,
        {token: poisoned(text, secret) for token, text in texts.items()},
        poisoned(end, secret, only),
        (poisoned(stamp, secret, only),),
    )


BEAMS = BeamStep(
    beams=2,
    rows=(
        BeamRow(
            continuations=(
                Continuation(
                    parent=0, token=16 + FAR, before=0.0, log_probability=-1.0, score=-1.0, fate="cut"
                ),
            ),
            ended=(Hypothesis(number=0, step=1, row=0, token=17 + FAR, total=-1.0, length=1, value=-1.0),),
            pushed_out=(),
            kept=1,
            worst=-1.0,
            attainable=None,
            done=False,
        ),
    ),
    parents=(0, 1),
    before=(0.0, 0.0),
    scores=(-1.0, -2.0),
    constraints=ConstraintStep(
        constraints=(Constraint(name="", words=((20 + FAR, 21 + FAR),)),),
        advancing=((21 + FAR,), ()),
        progress=(
            (ConstraintProgress(constraint=0, status="in progress", so_far=(20 + FAR,), next=(21 + FAR,)),),
            (),
        ),
    ),
)
ASSISTED = AssistedStep(
    proposer="",
    proposals=(Proposal(token=18 + FAR, accepted=False, draft=0.5, target=0.5, draw=None, choice=19 + FAR),),
    appended=(19 + FAR,),
    own=True,
    seconds=0.0,
    forwards=1,
    matched=(18 + FAR,),
    matched_at=0,
)

CONTRASTIVE = ContrastiveStep(
    penalty_alpha=0.6,
    rows=(
        RowRanking(
            candidates=(
                RankedCandidate(
                    token=20 + FAR, probability=0.5, penalty=0.5, position=0, similar=21 + FAR, score=-0.1
                ),
            ),
            taken=0,
        ),
        None,
    ),
    repeated=CacheState(kind="none", length=0),
    grown=CacheState(kind="none", length=0),
)


def secret_step(step: Step, secret: str, only: str | None) -> Step:
    assert step.scores is not None
    inputs = step.head.inputs
    tensors = tuple(
        tensor.model_copy(update={"values": type(tensor.values).encode(far(tensor.values.decode()))})
        if tensor.name == "input_ids" and tensor.values is not None
        else tensor
        for tensor in inputs.tensors
    )
    own = tensors[0].model_copy(update={"name": "my_ids"})
    contrast = step.head.contrast
    assert contrast is not None
    best = tuple(
        tuple(each.model_copy(update={"token": each.token + FAR}) for each in row) for row in contrast.tokens
    )
    head = step.head.model_copy(
        update={
            "inputs": inputs.model_copy(update={"tensors": (*tensors, own)}),
            "violations": (Violation(check="cache", message="", row=0, layer=1),),
            "errors": (CaptureError(stop="layers", message=""),),
            "interventions": (
                Intervention(kind="force", detail="", token=11 + FAR),
                Intervention(kind="ban", detail=""),
                Intervention(kind="set", detail="", setting="own", value=12 + FAR),
            ),
            "failure": Failure(stop="layers", message=""),
            "contrast": contrast.model_copy(update={"tokens": best}),
            "uncaptured": (Uncaptured(capture="kv", stop="update", reason=""),),
            "beams": BEAMS,
            "assisted": ASSISTED,
            "contrastive": CONTRASTIVE,
            "prompt_pass": PromptPass(
                inputs=inputs.model_copy(update={"tensors": (*tensors, own), "others": {"given": ""}}),
                cache=CacheState(kind="none", length=0),
                forward=None,
                calls=0,
                seconds=0.0,
            ),
        }
    )
    scores = replace(
        step.scores,
        **{name: far(getattr(step.scores, name)) for name in ("tokens", "chosen", "removed_tokens")},
    )
    shapes_of = {number: poisoned(shape, secret, only) for number, shape in step.shapes.items()}
    return replace(step, head=poisoned(head, secret, only), scores=scores, shapes=shapes_of)


def everything(run: SecretRun) -> str:
    """All that the redacted reports of a run hold, as text: page, exports, terminal."""
    page = render_page([run], source="run.trace", redact=True)
    parts = [re.sub(r">[A-Za-z0-9+/=]{200,}<", "><", page.split("<script")[0])]
    parts += [unpacked(text) for text in re.findall(r'data-section="[^"]+">([^<]+)<', page)]
    (redacted,) = redacted_runs([run])
    target = io.BytesIO()
    write_jsonl(target, FileInfo(1, "0.1.0", "2026-01-02T03:04:05Z", 1), [redacted])
    for table in TABLES.values():
        write_csv(target, table, table.of_run(redacted))
    parts.append(target.getvalue().decode())
    printed = io.StringIO()
    report = TerminalReport(Console(file=printed, width=200, highlight=False))
    report.on_run(1, redacted.header, redacted.tokens)
    for step in redacted.steps:
        report.on_step(step, redacted.tokens)
    report.on_end(redacted.end, redacted.stamps)
    return "\n".join([*parts, printed.getvalue()])


def unpacked(text: str) -> str:
    """A section's JSON, and its arrays of whole numbers."""
    whole = zlib.decompress(base64.b64decode(text))
    size = int.from_bytes(whole[:4], "little")
    head = json.loads(whole[4 : 4 + size])
    numbers, offset = [], 4 + size
    for _, kind, shape, axis in head["arrays"]:
        length = int(np.prod(shape))
        width = {"f4": 4, "i4": 4, "u1": 1}[kind]
        if kind == "i4":
            planes = np.frombuffer(whole, np.uint8, length * 4, offset).reshape(4, length)
            bits = planes.T.copy().view("u4").reshape(shape)
            bits = np.bitwise_xor.accumulate(bits, axis=axis) if axis >= 0 and length else bits
            numbers.append(" ".join(map(str, bits.view(np.int32).ravel().tolist())))
        offset += length * width
    return json.dumps(head["metadata"], ensure_ascii=False) + "\n" + "\n".join(numbers)


def records_of(run: Any) -> str:
    """All records of a run as they would be stored."""
    steps = [record for step in run.steps for record in (step.head, *step.shapes.values())]
    return "\n".join(record.model_dump_json() for record in (run.header, run.end, *run.stamps, *steps))


def findable(secret: str, text: str) -> bool:
    """Whether the secret is in a text, whatever is escaped around its words."""
    return any(word in text for word in re.findall(r"zq\w+|xk\w+", secret))


SECRETS = st.tuples(
    st.sampled_from(
        ["", " ", "/home/", "file:///", "C:\\", "token is '", "ValueError: ", "lens: ", "modules="]
    ),
    st.text(string.ascii_lowercase, min_size=8, max_size=12).map(lambda word: f"zq{word}"),
    st.sampled_from([" ", "/", "' (7)", ": ", "\n", "="]),
    st.text(string.ascii_lowercase, min_size=8, max_size=12).map(lambda word: f"xk{word}"),
).map("".join)


@given(SECRETS)
@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_a_secret_in_every_text_and_id_is_found_nowhere(secret: str) -> None:
    found = everything(secret_run(secret))
    assert not findable(secret, found)
    assert not re.search(rf"\b{str(FAR)[:3]}\d{{5}}\b", found)
    assert LEFT_OUT in found


@pytest.mark.parametrize("name", FIELDS)
def test_a_secret_in_one_text_is_found_nowhere(name: str) -> None:
    """Also where everything around it is as it should be."""
    secret = "'/srv/zqsecretive xkthing' (7)"
    run = secret_run(secret, name)
    assert findable(secret, records_of(run))
    assert not findable(secret, records_of(redacted_runs([run])[0]))


def test_without_redaction_all_of_it_is_there() -> None:
    run = secret_run("zqsecretive xkthing")
    page = render_page([run], source="run.trace", redact=False)
    parts = [unpacked(text) for text in re.findall(r'data-section="[^"]+">([^<]+)<', page)]
    assert findable("zqsecretive xkthing", "\n".join(parts))
    assert str(FAR)[:3] in "\n".join(parts)


def test_what_says_nothing_stays() -> None:
    header = synthetic_header(layers=2)
    step = next(iter(synthetic_steps(header, 1)))
    redactor = Redactor(Aliases())
    found = redactor.record(header)
    assert (found.model.class_name, found.model.layers, found.model.dtype) == (
        "Qwen2ForCausalLM",
        2,
        "bfloat16",
    )
    assert found.modules == header.modules
    assert found.processors == header.processors
    assert found.versions == header.versions
    assert found.generation_config == header.generation_config
    assert found.criteria[0] == header.criteria[0]
    assert found.criteria[1].settings == {"eos_token_id": LEFT_OUT}
    head = redactor.record(step.head)
    assert head.model_copy(update={"inputs": step.head.inputs}) == step.head
    assert head.inputs.tensors[1:] == step.head.inputs.tensors[1:]
    tree = str(tiny_model())
    assert redactor.record(header.model.model_copy(update={"tree": tree})).tree == tree


def test_a_changed_setting_stays_where_it_is_a_figure() -> None:
    redactor = Redactor(Aliases())
    changed = Intervention(kind="set", detail="temperature 0.5", setting="temperature", value=0.5)
    assert redactor.record(changed) == changed
    forced = redactor.record(Intervention(kind="force", detail="' Large' (34253)", token=34253))
    assert (forced.token, forced.detail) == (1, LEFT_OUT)


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("temperature", "0.7", "0.7"),
        ("top_k", "20", "20"),
        ("eos_token_id", "151645", LEFT_OUT),
        ("token", "34253.0", LEFT_OUT),
        ("bias", "2.5", "2.5"),
        ("use_cache", "True", "True"),
        ("filter_value", "-inf", "-inf"),
        ("past_key_values", "DynamicCache", "DynamicCache"),
        ("stop_strings", "['Large']", LEFT_OUT),
        ("min_length", "1e3", "1e3"),
    ],
)
def test_settings(name: str, text: str, kept: str) -> None:
    assert shapes.setting(name, text) == kept


def test_commands_redact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = make_trace(tmp_path / "run.trace", count=3)
    shown = call_main(capsys, "show", trace, "--redact")
    assert shown.returncode == 0
    exported = tmp_path / "run.jsonl"
    assert call_main(capsys, "export", trace, "--format", "jsonl", "--redact").returncode == 0
    for text in (shown.stdout, exported.read_text(encoding="utf-8")):
        for secret in ("word11", "language", "/site-packages/", str(tmp_path)):
            assert secret not in text
        assert "Qwen2ForCausalLM" in text
    assert "--break" in call_main(capsys, "show", trace, "--redact", "--break", "step > 1").stderr
    refused = call_main(capsys, "export", trace, "--format", "safetensors", "--redact")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)

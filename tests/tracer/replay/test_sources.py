"""Source text comes from a file that has the recorded lines, else from the trace."""

from __future__ import annotations

from pathlib import Path

from tests.support.models import GREEDY, SAMPLING
from tests.support.synthetic import synthetic_header
from tests.tracer.replay.recordings import recorded
from tracer.replay.stack.frames import frames_at
from tracer.replay.stack.sources import Sources
from tracer.replay.timeline import Position
from tracer.schema.run import Anchor, RunHeader

UTILS = "transformers/generation/utils.py"


def elsewhere(header: RunHeader, **changes: object) -> RunHeader:
    """The header of a run that another machine recorded."""
    anchors = tuple(
        anchor.model_copy(update={"path": f"/other/{anchor.file}", **changes}) for anchor in header.anchors
    )
    return header.model_copy(update={"anchors": anchors})


def test_the_file_that_was_recorded() -> None:
    header = recorded(**SAMPLING).open().header
    for source in Sources(header):
        assert source.path == Path(source.anchors[0].path)
        assert source.note == ""
        lines = source.text().splitlines()
        assert all(lines[anchor.line - 1].strip() == anchor.text for anchor in source.anchors)


def test_the_installed_file_of_a_recording_from_elsewhere() -> None:
    header = recorded(**SAMPLING).open().header
    sources = Sources(elsewhere(header))
    assert [source.path for source in sources] == [source.path for source in Sources(header)]
    assert sources.at(f"/other/{UTILS}") is sources.at(f"/somewhere/else/site-packages/{UTILS}")
    assert sources.at("/somewhere/other.py") is None
    assert sources.at("") is None


def test_another_release_is_shown_from_the_trace() -> None:
    header = synthetic_header()  # the lines around its statements are made up
    sources = Sources(header)
    source = sources.of("choice")
    assert source is not None
    assert source.path is None
    assert "no installed file has these lines" in source.note
    lines = source.text().splitlines()
    anchor = header.anchor("choice")
    assert anchor is not None
    assert lines[anchor.line - 1].strip() == anchor.text
    assert lines[anchor.line] == "            # the line after"
    assert source.lines_around(anchor.line, 1)[1] == (anchor.line, f"            {anchor.text}")


def test_a_recording_without_excerpts() -> None:
    sources = Sources(elsewhere(synthetic_header(), excerpt=(), path="/other/x.py"))
    source = sources.of("choice")
    assert source is not None
    assert "next_tokens = torch.multinomial" in source.text()


def test_what_a_hostile_trace_names_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("loss = None\n")
    for file, path in [("../secret.txt", secret), ("a/../../secret.py", secret), ("x/y.py", tmp_path)]:
        anchor = Anchor(
            stop="choice", file=file, path=str(path), line=1, text="loss = None", excerpt_start=1, excerpt=()
        )
        header = synthetic_header().model_copy(update={"anchors": (anchor,)})
        (source,) = Sources(header)
        assert source.path is None
    far = anchor.model_copy(update={"line": 1 << 40, "excerpt": ("x",), "excerpt_start": 1 << 40})
    (source,) = Sources(header.model_copy(update={"anchors": (far,)}))
    assert source.text() == "\n"


def test_frames() -> None:
    header = recorded(**GREEDY).open().header
    sources = Sources(header)
    (only,) = frames_at(Position(2, "choice"), header, sources)
    assert (only.name, only.text) == ("_sample", "next_tokens = torch.argmax(next_token_scores, dim=-1)")
    inner, outer = frames_at(Position(2, "forward-result"), header, sources)
    assert (inner.name, inner.text) == ("Qwen2ForCausalLM.forward", "loss = None")
    call = header.anchor("model-call", "decode")
    assert call is not None
    assert (outer.name, outer.line, outer.text) == ("_sample", call.line, call.text)
    assert outer.text.endswith("(**model_inputs, return_dict=True)")
    assert inner.source is not None
    assert inner.source.file.endswith("modeling_qwen2.py")


def test_frames_of_a_run_without_lines() -> None:
    header = recorded(**GREEDY).open().header.model_copy(update={"anchors": ()})
    (only,) = frames_at(Position(1, "choice"), header, Sources(header))
    assert (only.line, only.source) == (0, None)

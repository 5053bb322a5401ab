"""What a page holds, read back as the page reads it; and how it is put in place."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from reports.html.pack import Section, rounded
from tests.reports.html.samples import make_trace, page_of
from tests.support.command import call_main
from tests.support.synthetic import PROMPT_TEXT, synthetic_header, synthetic_steps
from tracer.errors import OutputError
from tracer.output_files import write_text
from tracer.reading import open_trace

KINDS = {"f4": np.float32, "i4": np.int32, "u1": np.uint8}


def unpacked(text: str) -> tuple[Any, dict[str, Any]]:
    """The other end of a section, as the page's data.js has it."""
    whole = zlib.decompress(base64.b64decode(text))
    size = int.from_bytes(whole[:4], "little")
    head = json.loads(whole[4 : 4 + size])
    offset, arrays = 4 + size, {}
    for name, kind, shape, axis in head["arrays"]:
        dtype = np.dtype(KINDS[kind])
        length = int(np.prod(shape))
        planes = np.frombuffer(whole, np.uint8, length * dtype.itemsize, offset)
        bits = planes.reshape(dtype.itemsize, length).T.copy().view(f"u{dtype.itemsize}").reshape(shape)
        if axis >= 0:
            bits = np.bitwise_xor.accumulate(bits, axis=axis)
        arrays[name] = bits.view(dtype)
        offset += length * dtype.itemsize
    assert offset == len(whole)
    return head["metadata"], arrays


def sections(page: Path) -> dict[str, str]:
    return dict(re.findall(r'data-section="([^"]+)">([^<]+)<', page.read_text(encoding="utf-8")))


@given(
    npst.arrays(np.float32, npst.array_shapes(min_dims=1, max_dims=3, min_side=0)),
    st.integers(-1, 2),
)
def test_arrays_come_back_bit_for_bit(array: Any, axis: int) -> None:
    differences = {"a": axis} if 0 <= axis < array.ndim and array.size else {}
    _, arrays = unpacked(Section("s", None, {"a": array}, differences).packed())
    assert arrays["a"].tobytes() == array.tobytes()
    assert arrays["a"].shape == array.shape


def test_facts_may_hold_any_text_and_number() -> None:
    metadata = {"text": "</script>\ud800\u2028", "numbers": [float("nan"), float("-inf"), 1.5]}
    found, _ = unpacked(Section("s", metadata).packed())
    assert found == {"text": "</script>\ud800\u2028", "numbers": ["NaN", "-Infinity", 1.5]}


@given(npst.arrays(np.float32, 20, elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_rounded_statistics_are_near(values: Any) -> None:
    normal = np.where(np.abs(values) < 1e-30, np.float32(0), values)
    np.testing.assert_allclose(rounded(normal), normal, rtol=1.3e-4)


def test_rounding_keeps_what_is_not_finite() -> None:
    values = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    np.testing.assert_array_equal(rounded(values), values)


def test_scores_are_stored_without_loss(tmp_path: Path) -> None:
    steps = list(synthetic_steps(synthetic_header(layers=3), 18))
    found = sections(page_of(make_trace(tmp_path / "run.trace", steps=steps)))
    for number, step in enumerate(steps):
        assert step.scores is not None
        _, arrays = unpacked(found[f"run1-steps{number // 16}"])
        for field in fields(step.scores):
            expected = getattr(step.scores, field.name)
            stored = arrays[field.name][number % 16]
            np.testing.assert_array_equal(stored[tuple(slice(size) for size in expected.shape)], expected)


def test_overview_and_histories_are_those_of_the_steps(tmp_path: Path) -> None:
    steps = list(synthetic_steps(synthetic_header(layers=3), 5))
    found = sections(page_of(make_trace(tmp_path / "run.trace", steps=steps)))
    _, overview = unpacked(found["run1-overview"])
    assert overview["steps"].tolist() == [1, 2, 3, 4, 5]
    assert overview["chosen"][:, 0].tolist() == [step.choice().token for step in steps]  # type: ignore[union-attr]
    assert overview["cache_bytes"].tolist() == [step.head.cache_after.nbytes for step in steps]
    _, cache = unpacked(found["run1-cache"])
    assert cache["slots"].tolist() == list(range(33))
    assert steps[1].cache is not None
    np.testing.assert_allclose(cache["key"][29], steps[1].cache.key_norm[..., 0], rtol=1.3e-4)
    metadata, modules = unpacked(found["run1-modules"])
    assert metadata["layouts"][0][0] == list(steps[0].layout.modules)  # type: ignore[union-attr]
    assert steps[2].modules is not None
    np.testing.assert_allclose(modules["std"][2], steps[2].modules.std, rtol=1.3e-4)


def test_a_redacted_page_holds_no_text_no_id_and_no_path(tmp_path: Path) -> None:
    found = sections(page_of(make_trace(tmp_path / "run.trace", count=3), redact=True))
    whole = "".join(json.dumps(unpacked(text)[0]) for text in found.values())
    for secret in (PROMPT_TEXT[:20], "word11", "language", "/site-packages/", str(tmp_path)):
        assert secret not in whole
    index, _ = unpacked(found["index"])
    assert index["redacted"]
    assert index["runs"][0]["prompts"][0]["ids"] == list(range(1, 30))
    _, arrays = unpacked(found["run1-steps0"])
    assert int(arrays["tokens"].max()) < 500
    plain = sections(page_of(make_trace(tmp_path / "plain.trace", count=3)))
    _, same = unpacked(plain["run1-steps0"])
    np.testing.assert_array_equal(arrays["scores"], same["scores"])


def test_only_one_script_and_one_style_may_act(tmp_path: Path) -> None:
    page = page_of(make_trace(tmp_path / "run.trace")).read_text(encoding="utf-8")
    policy = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert len(policy) == 1
    assert policy[0].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe" not in policy[0]
    assert not re.search(r"""(?:src|href)=["'](?!#|data:,)""", page.split("<script")[0])


def test_a_page_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_text(target, "one")
    with pytest.raises(OutputError, match="exists already"):
        write_text(target, "two")
    assert target.read_text() == "one"
    write_text(target, "two", force=True)
    assert target.read_text() == "two"
    with pytest.raises(OutputError, match="it is a folder"):
        write_text(tmp_path, "x", force=True)
    with pytest.raises(OutputError, match="there is no folder"):
        write_text(tmp_path / "gone" / "page.html", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_report_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = make_trace(tmp_path / "run.trace")
    done = call_main(capsys, "report", trace)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'run.html'}\n")
    assert "data-section" in (tmp_path / "run.html").read_text(encoding="utf-8")
    assert call_main(capsys, "report", trace).returncode == 5
    assert call_main(capsys, "report", trace, "--force").returncode == 0
    assert call_main(capsys, "report", trace, "--run", "2", "-o", tmp_path / "x.html").returncode == 2
    assert call_main(capsys, "report", tmp_path / "run.html", "-o", tmp_path / "x.html").returncode == 8


def test_a_notebook_shows_the_page_in_a_frame(tmp_path: Path) -> None:
    with open_trace(make_trace(tmp_path / "run.trace")) as recording:
        frame = recording._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts"')
    assert frame.count("<") == 2

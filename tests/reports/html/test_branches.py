"""The branches in the page: what the tree says, how it is used, and what compares two of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.docs.papers import unknown_options
from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import (
    FORKS,
    HOSTILE,
    forked_trace,
    hostile_tokens,
    make_trace,
    page_of,
    replace_text,
)
from tests.reports.html.test_sections import sections, unpacked
from tests.support.breadth import VIEWPORTS, slow
from tests.support.command import call_main
from tests.support.synthetic import synthetic_tokens
from tracer.reading import open_trace
from tracer.schema.fork import ForkOrigin
from tracer.schema.run import STOPS

browser = pytest.mark.browser

OVERLAP = """() => { const trees = document.querySelector(".trees").getBoundingClientRect();
  const open = document.querySelector(".branch[aria-selected='true']").getBoundingClientRect();
  return open.top >= trees.top - 1 && open.bottom <= trees.bottom + 1; }"""
"""Whether the open branch is in sight inside the trees."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forked_trace(tmp_path_factory.mktemp("forked") / "run.trace", FORKS)


@pytest.fixture(scope="module")
def report(trace: Path) -> Path:
    return page_of(trace)


def branch(opened: Opened, number: int) -> Locator:
    return opened.page.locator(f"[role='treeitem'][data-run='{number}']")


def many(count: int) -> list[ForkOrigin | None]:
    """A run and forks of it and of one another."""
    return [
        None,
        *(ForkOrigin(run=1 + n // 3, step=1 + n % 8, row=0, token=40 + n) for n in range(count)),
    ]


def test_the_page_has_what_the_tree_of_the_terminal_says(
    report: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, _ = unpacked(sections(report)["index"])
    ((trunk,),) = index["branches"]
    assert trunk["prompt"].startswith("prompt: <|im_start|>system You are")
    assert [each["number"] for each in trunk["run"]["branches"]] == [2, 5, 3]
    fork = trunk["run"]["branches"][0]
    assert (fork["step"], fork["token"]) == (3, 13)
    assert fork["origin"] == "from step 3: chose ' word43' (43)"
    assert fork["figures"][-1] == "ended by EosTokenCriteria"
    (inner,) = fork["branches"]
    assert inner["origin"] == "from step 5: temperature 1.5, seed 4"
    printed = " ".join(call_main(capsys, "tree", trace).stdout.replace("│", " ").split())
    for each in (fork, inner):
        said = "; ".join((f"run {each['number']}, {each['origin']}", each["first"], *each["figures"]))
        assert said in printed


def test_a_page_without_forks_has_no_branches(tmp_path: Path) -> None:
    index, _ = unpacked(sections(page_of(make_trace(tmp_path / "run.trace")))["index"])
    assert index["branches"] == []
    assert index["runs"][0]["fork"] is None


def test_first_words_are_cut(tmp_path: Path) -> None:
    page = page_of(forked_trace(tmp_path / "run.trace", (None, ForkOrigin(run=1, step=2, seed=1)), count=40))
    index, _ = unpacked(sections(page)["index"])
    text = index["branches"][0][0]["run"]["branches"][0]["text"]
    assert text.startswith("sub12␣word13")
    assert len(text) == 161
    assert text.endswith("…")


def test_runs_with_fewer_rows_show_their_last_one(tmp_path: Path) -> None:
    fork = ForkOrigin(run=1, step=2, row=1, token=42)
    page = page_of(forked_trace(tmp_path / "run.trace", (None, fork), rows=3))
    index, _ = unpacked(sections(page)["index"])
    assert len(index["branches"]) == 3
    assert (
        index["branches"][2][0]["run"]["branches"][0]["origin"] == "from step 2: chose 'sub42' (42) in row 1"
    )


def test_a_redacted_page_says_no_text_of_a_branch(trace: Path, tmp_path: Path) -> None:
    secret = tmp_path / "run.trace"
    forks = (*FORKS, ForkOrigin(trace="secret.trace", run=1, step=2, settings={"stop_strings": "secret"}))
    page = page_of(forked_trace(secret, forks), redact=True)
    index, _ = unpacked(sections(page)["index"])
    whole = json.dumps([index["branches"], [run["fork"] for run in index["runs"]]])
    for word in ("word", "sub", "language", "secret"):
        assert word not in whole
    assert "chose token " in whole


def command_of(opened: Opened) -> list[str]:
    return shlex.split(opened.page.locator(".compare code").inner_text())


@browser
def test_a_click_opens_a_branch_at_its_fork(report: Path, opened: Opened) -> None:
    page = opened.open(report)
    expect(branch(opened, 1)).to_have_attribute("aria-selected", "true")
    branch(opened, 4).click()
    opened.shown("4/5/0/model-call")
    expect(branch(opened, 4)).to_have_attribute("aria-selected", "true")
    assert page.locator("[role='treeitem'][aria-selected='true']").count() == 1
    assert "open" in branch(opened, 4).inner_text().lower()
    fork = page.locator("header .fork")
    assert "forked from run 2 at step 5: temperature 1.5, seed 4" in fork.inner_text()
    fork.get_by_role("button", name="Open run 2 there").click()
    opened.shown("2/5/0/model-call")
    branch(opened, 1).click()
    opened.shown("1/1/0/model-call")
    assert page.locator("header .fork").count() == 0


@browser
def test_the_tree_is_used_with_keys(report: Path, opened: Opened) -> None:
    page = opened.open(report)
    page.locator("#branches").focus()
    page.keyboard.press("Tab")
    # From the trunk to the branch that leaves it last, back, and to the end of the tree.
    for key, number in (
        ("ArrowDown", 3),
        ("ArrowDown", 2),
        ("ArrowRight", 4),
        ("ArrowLeft", 2),
        ("ArrowUp", 3),
        ("End", 5),
        ("Home", 1),
        ("ArrowLeft", 1),
        ("ArrowRight", 3),
    ):
        page.keyboard.press(key)
        expect(branch(opened, number)).to_be_focused()
    opened.shown("1/1/0/model-call")
    outline = branch(opened, 3).evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    opened.shown("3/6/0/model-call")
    expect(branch(opened, 3)).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    opened.shown("2/3/0/model-call")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(branch(opened, 2)).to_be_focused()
    page.keyboard.press("j")
    opened.shown(f"2/3/0/{STOPS[2]}")


@browser
def test_branches_leave_their_parent_at_their_step(report: Path, opened: Opened) -> None:
    opened.open(report, "#run=4")
    places = {
        number: branch(opened, number).locator(".knot").evaluate("each => each.getBoundingClientRect().left")
        for number in (2, 3, 4, 5)
    }
    assert places[2] == places[5] < places[4] < places[3]
    down = branch(opened, 4).locator(".down.arrives")
    left = down.evaluate("each => each.getBoundingClientRect().left")
    knot = branch(opened, 4).locator(".knot").evaluate("each => each.getBoundingClientRect()")
    assert abs(left + 1 - (knot["left"] + knot["width"] / 2)) <= 1
    # The way to the open branch is marked from the prompt on, and no other.
    for number, marked in ((1, 1), (2, 1), (4, 1), (3, 0), (5, 0)):
        lines = branch(opened, number).locator(".line.on-path")
        assert min(lines.count(), 1) == marked, number
    assert branch(opened, 1).locator(".line:not(.prompt):not(.on-path)").count() == 2


@browser
def test_two_branches_are_compared_by_a_command(
    report: Path,
    opened: Opened,
    trace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = opened.open(report)
    branch(opened, 4).click()
    opened.shown("4/5/0/model-call")
    assert (
        page.get_by_label("First run to compare").evaluate("each => each.selectedOptions[0].text") == "run 2"
    )
    first = page.get_by_label("First run to compare")
    first.focus()
    first.select_option(label="run 3")
    expect(first).to_be_focused()
    arguments = command_of(opened)
    assert arguments[:2] == ["trace-generate", "diff"]
    assert arguments[2:6] == ["run.trace", "run.trace", "--run-a", "3"]
    assert arguments[6:] == ["--run-b", "4", "--html", "diff-3-4.html"]
    assert not unknown_options(arguments[1:])
    monkeypatch.chdir(trace.parent)
    assert call_main(capsys, *arguments[1:]).returncode in (0, 1)
    assert "data-section" in Path("diff-3-4.html").read_text(encoding="utf-8")
    said, copy = page.locator(".compare [role='status']"), page.get_by_role("button", name="Copy")
    page.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }")
    copy.click()
    expect(said).to_have_text("copied")
    assert page.evaluate("window.copied").split() == arguments
    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('no'); }; }")
    copy.click()
    expect(said).to_have_text("selected, to be copied with the keyboard")
    assert page.evaluate("getSelection().toString()").split() == arguments


@browser
def test_a_parent_that_is_not_here_is_said(tmp_path: Path, opened: Opened) -> None:
    forks = (
        None,
        ForkOrigin(trace="it's.trace", run=1, step=4, row=0, token=44),
        ForkOrigin(run=9, step=4, row=0, token=44),
        ForkOrigin(run=2, step=2, seed=1),
        None,
    )
    path = forked_trace(tmp_path / "run.trace", forks, ends=False)
    page = opened.open(page_of(path), "#run=2")
    assert page.locator("[role='tree']").count() == 4
    assert "forked from run 1 of it's.trace at step 4" in page.locator("header .fork").inner_text()
    expect(page.locator("header .fork")).to_contain_text("That run is not in this page.")
    assert command_of(opened)[2:8] == ["it's.trace", "run.trace", "--run-a", "1", "--run-b", "2"]
    page.get_by_label("First run to compare").select_option(label="run 5")
    branch(opened, 2).click()
    assert command_of(opened)[4:6] == ["--run-a", "5"]
    branch(opened, 3).click()
    opened.shown("3/4/0/model-call")
    assert "forked from run 9 at step 4" in page.locator("header .fork").inner_text()
    expect(page.locator("header .fork")).to_contain_text("That run is not in this page.")
    assert "no end record" in branch(opened, 3).inner_text()
    assert branch(opened, 4).get_attribute("aria-level") == "2"


@browser
def test_only_a_fork_in_the_page(trace: Path, tmp_path: Path, opened: Opened) -> None:
    page = tmp_path / "fork.html"
    with open_trace(trace) as recording:
        page.write_text(recording.to_html(run=4), encoding="utf-8")
    opened.open(page)
    expect(opened.page.locator("header .fork")).to_contain_text("That run is not in this page.")
    assert opened.page.locator("[role='treeitem']").count() == 1
    assert opened.page.locator("#branches .body").evaluate("body => body.childNodes.length") == 1


@browser
@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS)
def test_30_forks_fit_and_are_accessible(tmp_path: Path, opened: Opened, width: int, scheme: str) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = opened.open(page_of(forked_trace(tmp_path / "run.trace", many(30))), "#run=31")
    assert page.locator("[role='treeitem']").count() == 31
    assert page.evaluate(WIDE) <= 0
    assert page.evaluate(OVERLAP)
    assert page.locator(".trees").evaluate("trees => trees.offsetHeight") <= 680
    assert page.locator(".trees").evaluate("trees => trees.scrollWidth - trees.clientWidth") == 0
    assert serious_barriers(page) == []


def hostile_forks() -> Sequence[ForkOrigin | None]:
    return (
        *FORKS,
        ForkOrigin(
            trace=f"{HOSTILE[0]}\n", run=1, step=2, settings={HOSTILE[1]: HOSTILE[0]}, row=0, token=45
        ),
        ForkOrigin(run=3, step=7, banned=tuple(range(40, 60)), row=0),
    )


@browser
@pytest.mark.parametrize("width", [400, *slow(1600)])
def test_hostile_texts_are_only_texts(tmp_path: Path, opened: Opened, width: int) -> None:
    arabic = [replace_text(token, "مرحبا") for token in synthetic_tokens().values() if token.id == 17]
    tokens = [*(token for token in hostile_tokens() if token.id != 17), *arabic]
    path = forked_trace(tmp_path / "run.trace", hostile_forks(), tokens=tokens)
    opened.page.set_viewport_size({"width": width, "height": 900})
    page = opened.open(page_of(path), "#run=6")
    for number in range(1, 8):
        branch(opened, number).click()
        assert page.evaluate(WIDE) <= 0, number
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, iframe, #branches script").count() == 0
    text = page.locator("#branches").inner_text()
    assert "<img src=x onerror=" in text
    assert "\u202e" not in text
    assert "مرحبا" in text

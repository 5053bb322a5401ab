"""The stepper's commands, from a script."""

from __future__ import annotations

import io
from inspect import signature
from pathlib import Path

import pytest
import torch
from rich.console import Console

from hooks.loop.anchors import find_anchors
from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import DEVICE, GREEDY, SAMPLING, tiny_model
from tests.support.walkthrough import CHOSEN, FIRST_FUNCTION, LOOP, SCORES, WALKTHROUGH, passed
from tests.tracer.stepper.sessions import stepped, untouched
from tracer.stepper.lines import Complete, PipeLines

CACHE = (
    "past_key_values" if "past_key_values" in signature(type(tiny_model()).forward).parameters else "cache"
)
MOMENTS = ("model-call", "forward-result", "choice", "update", "stopping")


def halts(text: str) -> list[str]:
    """The prompts, in order: stop and step."""
    return [line[1 : line.index(")")] for line in text.splitlines() if line.startswith("(")]


def test_enter_and_n_go_from_stop_to_stop(tmp_path: Path) -> None:
    session = stepped(tmp_path, *["", "n"] * 6, **SAMPLING)
    expected = [f"{stop} {step}" for step in (1, 2, 3) for stop in WALKTHROUGH]
    assert halts(session.text) == expected[:13]
    assert "(end of input)" in session.text
    assert session.sequences is not None


def test_cards_come_once_and_to_the_end(tmp_path: Path) -> None:
    session = stepped(tmp_path, *["n"] * 60, **GREEDY)
    steps = len(session.steps)
    for title in ("prepare inputs", "layers", "forward result", "softmax", "choice", "append", "stopping"):
        cards = [line for line in session.text.splitlines() if f" {title} ─" in line]
        assert len(cards) == steps, title


def test_s_goes_to_the_next_step(tmp_path: Path) -> None:
    session = stepped(tmp_path, "n", "s", "s", "c", **GREEDY)
    assert halts(session.text) == ["model-call 1", "forward-result 1", "model-call 2", "model-call 3"]
    later = stepped(tmp_path, "s", "s", "c", stops="choice", steps="2-3", **GREEDY)
    assert halts(later.text) == ["choice 2", "choice 3"]


def test_conditions_halt_at_the_end_of_their_step(tmp_path: Path) -> None:
    session = stepped(tmp_path, "c", "p cur_len", "c", breaks=("step in (2, 4)",), **GREEDY)
    assert halts(session.text) == ["model-call 1", "end 2", "end 2", "end 4"]
    assert "! break: step in (2, 4) holds in step 2: step is 2" in session.text
    assert "this_peer_finished = " in session.text


def test_a_condition_that_holds_in_the_last_step(tmp_path: Path) -> None:
    last = len(stepped(tmp_path, "c", **GREEDY).steps)
    session = stepped(tmp_path, f"u step == {last}", "p unfinished_sequences", "n", **GREEDY)
    assert halts(session.text) == ["model-call 1", f"end {last}", f"end {last}"]
    assert session.after("p unfinished_sequences").strip() == repr(torch.tensor([0], device=DEVICE))


def test_u_holds_once_and_b_stays(tmp_path: Path) -> None:
    once = stepped(tmp_path, "u step > 1", "c", **GREEDY)
    assert halts(once.text) == ["model-call 1", "end 2"]
    stays = stepped(tmp_path, "b step > 2", "c", "c", "c", **GREEDY)
    assert halts(stays.text)[1:] == ["model-call 1", "end 3", "end 4", "end 5"]
    assert "halts where step > 2" in stays.after("b step > 2")


def test_conditions_know_tokens_that_nothing_mentioned(tmp_path: Path) -> None:
    session = stepped(tmp_path, 'b removed("w61")', "c", "c", **SAMPLING)
    assert "end 1" in halts(session.text)


def test_expressions_see_the_real_frame(tmp_path: Path) -> None:
    # Newer releases compute the logits of the last position alone.
    positions = 6 if SCORES == "warpers" else 1
    taken = "logits_warper" if SCORES == "warpers" else "logits_processor"
    session = stepped(
        tmp_path,
        "p model_inputs['input_ids'].shape",
        "p [name for name in model_inputs if name.startswith('p')]",
        "p (input_ids := None)",
        "n",
        "p logits.shape",
        "n",
        f"p {taken}",
        "n",
        "n",
        "p probs.sum().item()",
        "p 1 / 0",
        "p this wrong",
        "p nowhere",
        "p exit()",
        "p 'x' * 9 + chr(27) + '[31m'",
        "p '\\n'.join(map(str, range(99)))",
        "p range(3)",
        stops=f"model-call,forward-result,{SCORES},softmax,choice",
        **SAMPLING,
    )
    assert session.after("p model_inputs['input_ids'].shape").strip() == "torch.Size([1, 6])"
    names = session.after("p [name for name in model_inputs if name.startswith('p')]")
    assert "'position_ids'" in names
    assert session.after("p logits.shape").strip() == f"torch.Size([1, {positions}, 100])"
    assert "TemperatureLogitsWarper" in session.after(f"p {taken}")
    assert float(session.after("p probs.sum().item()")) == pytest.approx(1)
    assert session.after("p 1 / 0").strip() == "ZeroDivisionError: division by zero"
    assert session.after("p this wrong").strip() == "SyntaxError: invalid syntax"
    assert "NameError" in session.after("p nowhere")
    assert session.after("p range(3)").strip() == "range(0, 3)"
    assert "\x1b" not in session.text
    assert session.sequences is not None
    assert session.sequences.tolist() == untouched(**SAMPLING).tolist()


def test_long_values_are_cut(tmp_path: Path) -> None:
    session = stepped(tmp_path, "p type('Long', (), {'__repr__': lambda self: 'x\\n' * 99})()", **GREEDY)
    assert "… 59 more lines" in session.text


def test_source_and_stack(tmp_path: Path) -> None:
    session = stepped(tmp_path, "l", "l 1", "l x", "w", **GREEDY)
    listed = session.after("l").strip().splitlines()
    assert len(listed) == 19
    assert sum(line.lstrip().startswith("→") for line in listed) == 1
    anchor = next(each for each in find_anchors(tiny_model(), LOOP, do_sample=False))
    assert f"→ {anchor.line}" in session.after("l 1")
    assert len(session.after("l 1").strip().splitlines()) == 3
    assert "no number above 0" in session.after("l x")
    stack = session.after("w")
    assert f"transformers/generation/utils.py:{anchor.line}  {FIRST_FUNCTION}" in stack
    assert stack.rstrip().endswith("self(**model_inputs, return_dict=True)")


def test_cache_candidates_and_why(tmp_path: Path) -> None:
    session = stepped(
        tmp_path,
        *("kv", "top", "why w60", "n", "n", "top 3", "why w61"),
        *("n", "why w62", "top 99", "n", "kv", "why id:100"),
        stops=f"model-call,forward-result,{SCORES},choice,append",
        **SAMPLING,
    )
    assert f"{CACHE} before step 1" in session.after("kv")
    assert "no scores yet" in session.after("top")
    assert "have not run yet" in session.after("why w60")
    top = session.after("top 3")
    assert "rank" in top
    assert len(top.strip().splitlines()) == 6
    assert "have not run yet" in session.after("why w61")
    answer = session.text.split("(choice 1) why w62\n")[1]
    assert "removed" in answer[:1500]
    assert "Chosen was" not in answer.split("(choice 1)")[0]
    assert f"{CACHE} after step 1" in stepped(tmp_path, "kv", stops="stopping", **GREEDY).after("kv")
    assert "There is no token 100" in session.text


def test_the_cache_is_that_of_the_moment(tmp_path: Path) -> None:
    """The forward pass has written its slots before the arguments of the next step are made."""
    stops = [stop for stop in LOOP.stops if stop in MOMENTS]
    session = stepped(tmp_path, *["kv", "n"] * 10, stops=",".join(stops), **GREEDY)
    answers = session.text.split(") kv\n")[1:]
    titles = [answer.strip().splitlines()[0] for answer in answers]
    for step, slots in ((1, 6), (2, 7)):
        shown = titles[5 * step - 5 : 5 * step]
        assert shown[0].startswith(f"{CACHE} before step {step}")
        for stop, title in zip(stops[1:], shown[1:], strict=True):
            when = "step" if passed("update", stop) else "the forward pass of step"
            assert title.startswith(f"{CACHE} after {when} {step}")
        for answer in answers[5 * step - 4 : 5 * step]:
            assert f"{slots} slots" in answer.split("\n(")[0]


def test_a_text_that_may_mean_several_tokens_is_asked_about(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([" w60"])
    lines = ["force w60", "ban w60", "why w60", 'force "w60"', "c"]
    session = stepped(tmp_path, *lines, tokenizer=tokenizer, **GREEDY)
    for line in lines[:3]:
        assert 'may mean id:60 "w60", id:100 " w60"; choose one, e.g. id:60.' in session.after(line)
    assert 'force "w60" (60): in the choice of step 1' in session.after('force "w60"')


def test_a_token_that_is_still_there_may_be_chosen(tmp_path: Path) -> None:
    best = int(untouched(**GREEDY)[0, 6])
    session = stepped(tmp_path, f"why id:{best}", "n", f"why id:{best}", stops=f"choice,{CHOSEN}", **GREEDY)
    first, second = session.text.split(f") why id:{best}\n")[1:]
    assert "It may still be chosen, with probability" in first[:400]
    assert "It was chosen, with probability" in second[:400]


def test_nonsense_is_answered_in_one_line_and_asked_again(tmp_path: Path) -> None:
    lines = ["bogus", "u", "u foo <", "b p_chosen <", "force", "force nix", "force id:1000", "force w7 row 9"]
    lines += ["ban id:-1", "set", "set temperature", "set temperature x", "set top_p 0.5", "why", "n n"]
    session = stepped(tmp_path, *lines, "c", **GREEDY)
    assert halts(session.text) == ["model-call 1"] * (len(lines) + 1)
    for line in lines:
        answer = session.after(line)
        assert answer.count("✗") == 1, line
    assert session.sequences is not None
    assert session.sequences.tolist() == untouched(**GREEDY).tolist()


def test_q_ends_the_run_with_its_trace_closed(tmp_path: Path) -> None:
    session = stepped(tmp_path, "s", "q", **GREEDY)
    assert session.sequences is None
    assert len(session.steps) == 1


def test_the_end_of_a_script_goes_on_without_halts(tmp_path: Path) -> None:
    session = stepped(tmp_path, "n", breaks=("step > 0",), **GREEDY)
    assert halts(session.text) == ["model-call 1", "forward-result 1"]
    assert session.sequences is not None


def test_help_names_every_command(tmp_path: Path) -> None:
    text = stepped(tmp_path, "h", **GREEDY).after("h")
    known = "n s c u b sb rc g p l w kv top why whatif diff force ban set fork h q"
    for name in known.split():
        assert any(line.split()[:1] == [name] for line in text.splitlines()), name


def test_lines_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, list[str]] = {}

    class Asking(PipeLines):
        def read(self, prompt: str, complete: Complete) -> str | None:
            if not prompt.startswith("(choice"):
                return "n"
            for text in (
                "",
                "f",
                "p next_tok",
                "p input_ids[0] + unf",
                "u p_",
                "set t",
                "force w",
                "whatif t",
                "fork token=3 se",
                "l ",
            ):
                found[text] = list(complete(text))
            return None

    monkeypatch.setattr("tests.tracer.stepper.sessions.PipeLines", Asking)
    stepped(tmp_path, **SAMPLING)
    assert len(found[""]) == 22
    assert found["f"] == ["force", "fork"]
    assert found["p next_tok"] == ["p next_token_logits", "p next_token_scores"]
    assert found["p input_ids[0] + unf"] == ["p input_ids[0] + unfinished_sequences"]
    assert "u p_chosen" in found["u p_"]
    assert found["set t"] == ["set temperature", "set top_k", "set top_p"]
    assert found["force w"]
    assert found["whatif t"] == [f"whatif {name}=" for name in ("temperature", "top_k", "top_p", "typical_p")]
    assert found["fork token=3 se"] == ["fork token=3 seed="]
    assert found["l "] == []


def test_a_pipe_repeats_its_lines() -> None:
    target = io.StringIO()
    lines = PipeLines(io.StringIO("n\n[bold]x\n"), Console(file=target, width=80))
    assert [lines.read("(a) ", lambda _: ()) for _ in range(3)] == ["n\n", "[bold]x\n", None]
    assert target.getvalue() == "(a) n\n(a) [bold]x\n(a) (end of input)\n"

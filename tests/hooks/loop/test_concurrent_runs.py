"""Several generations at once: each belongs to the traces that are open in its own context."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, TextIteratorStreamer

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.tracefile import check_file

ROUNDS = 200

SETTINGS: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def ids_of(model: PreTrainedModel, length: int, new: int = 8) -> list[int]:
    found: list[int] = model.generate(**batch(length=length), max_new_tokens=new, **SETTINGS)[0].tolist()
    return found


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(0)``, ``work(1)``, … in threads that start together; their results or exceptions."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def go(place: int) -> None:
        start.wait()
        try:
            results[place] = work(place)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results[place] = error

    threads = [threading.Thread(target=go, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def sequences(path: Path) -> list[list[int]]:
    """The whole sequences of a trace's runs, each proved to be of the steps recorded for it."""
    assert check_file(path).ok
    found = []
    with open_trace(path) as recording:
        for run in recording.runs:
            assert run.end is not None
            whole = list(run.end.sequences[0])
            chosen = [choice.token for step in run.steps if (choice := step.choice()) is not None]
            assert whole == [*run.header.prompt[0].token_ids, *chosen]
            assert not any(step.head.violations or step.head.errors for step in run.steps)
            found.append(whole)
    return found


def left_behind(model: PreTrainedModel) -> set[str]:
    """Methods that stand in instance dictionaries."""
    names = {name for module in model.modules() for name in vars(module)}
    return names & {"forward", "generate", "_sample", "_beam_search", "__reduce_ex__"}


def test_two_threads_in_one_trace_are_two_runs(tmp_path: Path) -> None:
    model = tiny_model()
    expected = [ids_of(model, length, 30) for length in (5, 9)]
    with trace(model, path=tmp_path / "run.trace") as session:
        assert at_once(2, lambda place: ids_of(model, (5, 9)[place], 30)) == expected
    assert sorted(sequences(session.path)) == sorted(expected)
    assert (session.steps, session.faults) == (60, ())
    assert not left_behind(model)


def test_a_trace_for_each_of_four_requests(tmp_path: Path) -> None:
    model = tiny_model()
    expected = [ids_of(model, 4 + place) for place in range(4)]

    def request(place: int) -> list[int]:
        with trace(model, path=tmp_path / f"{place}.trace"):
            return ids_of(model, 4 + place)

    assert at_once(4, request) == expected
    assert [sequences(tmp_path / f"{place}.trace") for place in range(4)] == [[each] for each in expected]
    assert not left_behind(model)


def test_a_request_outside_of_the_trace_is_not_in_it(tmp_path: Path) -> None:
    model = tiny_model()
    expected, begin, done = ids_of(model, 5), threading.Event(), threading.Event()

    def other() -> None:
        begin.wait()
        ids_of(model, 9)
        model.generate(**batch(), max_new_tokens=2, num_beams=2)  # not refused here: nobody traces it
        done.set()

    threading.Thread(target=other).start()
    with trace(model, path=tmp_path / "run.trace") as session:
        begin.set()
        done.wait()
        ids_of(model, 5)
    assert sequences(session.path) == [expected]


def test_a_pool_made_in_the_block_inherits_it(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace") as session, ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda length: ids_of(model, length), (5, 6, 7)))
    assert sorted(sequences(session.path)) == sorted(expected)
    assert threading.Thread.start.__module__ == "threading"


@pytest.mark.parametrize("first_closed", [0, 1])
def test_overlapping_blocks_leave_nothing_behind(tmp_path: Path, first_closed: int) -> None:
    model = tiny_model()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    blocks = [trace(model, path=tmp_path / f"{place}.trace") for place in (0, 1)]
    for block in blocks:
        block.__enter__()
    expected = ids_of(model, 5)
    blocks[first_closed].__exit__(None, None, None)
    again = ids_of(model, 6)
    blocks[1 - first_closed].__exit__(None, None, None)
    assert sequences(tmp_path / f"{first_closed}.trace") == [expected]
    assert sequences(tmp_path / f"{1 - first_closed}.trace") == [expected, again]
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_a_stream_that_is_read_to_its_end_is_whole(tmp_path: Path) -> None:
    tokenizer, model = tiny_tokenizer(), tiny_model()
    for _ in range(5):
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
        arguments = {**batch(), **SETTINGS, "max_new_tokens": 6, "streamer": streamer}
        with trace(model, path=tmp_path / "run.trace", force=True) as session:
            threading.Thread(target=model.generate, kwargs=arguments).start()
            for _text in streamer:
                pass
        assert len(sequences(session.path)) == 1


def test_a_run_that_stands_still_ends_as_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hooks.loop.generation_watch.STALLED_SECONDS", 0.2)
    model, reached, go_on = tiny_model(), threading.Event(), threading.Event()

    class Waiting(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if input_ids.shape[1] == 8:
                reached.set()
                go_on.wait()
            return scores

    arguments = {**batch(), **SETTINGS, "max_new_tokens": 6}
    results: list[Any] = []
    processors = LogitsProcessorList([Waiting()])
    thread = threading.Thread(
        target=lambda: results.append(model.generate(**arguments, logits_processor=processors))
    )

    def leave_early() -> None:
        with trace(model, path=tmp_path / "run.trace"):
            thread.start()
            reached.wait()

    with pytest.warns(RuntimeWarning, match="went on after the block was left"):
        leave_early()
    go_on.set()
    thread.join()
    assert torch.equal(results[0], model.generate(**arguments))
    with open_trace(tmp_path / "run.trace") as recording:
        (run,) = recording.runs
        assert run.end is not None
        assert (run.end.status.value, len(run.steps)) == ("interrupted", 2)
    assert not left_behind(model)


def test_a_generation_inside_a_processor_is_not_part_of_the_run(tmp_path: Path) -> None:
    model = tiny_model()

    class LooksAhead(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            model.generate(input_ids, max_new_tokens=2, **SETTINGS)
            model.generate(input_ids, max_new_tokens=2, num_beams=2, **SETTINGS)
            return scores

    expected = ids_of(model, 5, 4)
    with trace(model, path=tmp_path / "run.trace") as session:
        model.generate(
            **batch(length=5),
            max_new_tokens=4,
            logits_processor=LogitsProcessorList([LooksAhead()]),
            **SETTINGS,
        )
    assert sequences(session.path) == [expected]


def test_models_that_share_modules_are_recorded_each_by_itself(tmp_path: Path) -> None:
    models = [tiny_model(), tiny_model(seed=1)]
    models[1].model = models[0].model
    expected = [ids_of(model, 5, 12) for model in models]

    def work(place: int) -> list[int]:
        with trace(models[place], path=tmp_path / f"{place}.trace"):
            return ids_of(models[place], 5, 12)

    assert at_once(2, work) == expected
    for place in (0, 1):
        with open_trace(tmp_path / f"{place}.trace") as recording:
            layouts = {step.layout.modules for step in recording.steps if step.layout}
            assert len(layouts) == 1
            assert len(layouts.pop()) == len(set(recording.steps[0].layout.modules))  # type: ignore[union-attr]


def test_a_patch_of_thread_start_by_others_outlives_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = threading.Thread.start
    model, started = tiny_model(), list[str]()
    with trace(model, path=tmp_path / "0.trace"):
        below = threading.Thread.start

        def start(self: threading.Thread) -> None:
            started.append(self.name)
            below(self)

        monkeypatch.setattr(threading.Thread, "start", start)
    with trace(model, path=tmp_path / "1.trace"):
        thread = threading.Thread(target=ids_of, args=(model, 5), name="mine")
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
    assert "run" not in vars(thread)
    assert started.count("mine") == 2
    assert len(sequences(tmp_path / "1.trace")) == 1
    monkeypatch.setattr(threading.Thread, "start", original)


def test_a_thread_that_is_started_twice_is_refused_as_it_is_untraced(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace") as session:
        thread = threading.Thread(target=ids_of, args=(model, 5))
        own = dict(vars(thread))
        thread.start()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        assert vars(thread).keys() <= own.keys()
    assert len(sequences(session.path)) == 1


class Requests:
    """One of many threads: it generates, and opens and closes traces of its own at random, in any order.

    Args:
        model: the model of all of them.
        expected: what it answers to prompts of each length, for each number of new tokens.
        folder: where the traces go.
        seed: of the dice.
    """

    def __init__(
        self, model: PreTrainedModel, expected: dict[tuple[int, int], list[int]], folder: Path, seed: str
    ) -> None:
        self._model = model
        self._expected = expected
        self._folder = folder
        self._dice = random.Random(seed)
        self._open: list[tuple[Any, Path, list[list[int]]]] = []
        self.runs = 0

    def make(self, generations: int) -> int:
        """Generate; the number of runs that were recorded, each of them whole."""
        for number in range(generations):
            chance = self._dice.random()
            if chance < 0.1 and len(self._open) < 2:
                path = self._folder / f"{number}.trace"
                block = trace(self._model, path=path, capture="shapes", force=True)
                block.__enter__()
                self._open.append((block, path, []))
            elif chance > 0.8 and self._open:
                self._close()
            length, new = self._dice.choice([*self._expected])
            answer = ids_of(self._model, length, new)
            assert answer == self._expected[length, new]
            for _, _, recorded in self._open:
                recorded.append(answer)
        while self._open:
            self._close()
        return self.runs

    def _close(self) -> None:
        block, path, recorded = self._open.pop(self._dice.randrange(len(self._open)))
        block.__exit__(None, None, None)
        with open_trace(path) as recording:
            found = [(run.end, len(run.steps), run.header.prompt[0]) for run in recording.runs]
        assert [end and list(end.sequences[0]) for end, _, _ in found] == recorded
        for end, steps, prompt in found:
            assert end is not None
            assert end.status.value == "complete"
            assert end.steps == steps == len(end.sequences[0]) - len(prompt.token_ids)
        self.runs += len(recorded)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread alone: eight of them are enough."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("one_thread")
def test_many_threads_with_and_without_traces(tmp_path: Path) -> None:
    model = tiny_model(num_hidden_layers=1)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    expected = {
        (length, new): ids_of(model, length, new) for length in range(3, 11) for new in (1, 1 + length % 2)
    }
    for place in range(8):
        (tmp_path / str(place)).mkdir()

    def work(place: int, number: int) -> int:
        return Requests(model, expected, tmp_path / str(place), f"{place} {number}").make(20)

    for number in range(ROUNDS):
        results = at_once(8, lambda place, number=number: work(place, number))  # type: ignore[misc]
        assert all(isinstance(result, int) for result in results), results
        assert sum(results) > 0
        assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
        assert threading.Thread.start.__module__ == "threading"

"""Which processors of a run are warpers, and where another one goes, in two lists and in a merged one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.synthetic import merged_header, synthetic_header
from tracer.analysis.processors.parsing import describe, parse_processors
from tracer.analysis.processors.roles import roles
from tracer.analysis.processors.settings import Settings, change_processors
from tracer.schema.run import ProcessorInfo, RunHeader

SETTINGS = {
    "TemperatureLogitsWarper": {"temperature": "0.7"},
    "TopHLogitsWarper": {"top_h": "0.5"},
    "TopKLogitsWarper": {"top_k": "20"},
    "TopPLogitsWarper": {"top_p": "0.8"},
    "RepetitionPenaltyLogitsProcessor": {"penalty": "1.1"},
    "NoRepeatNGramLogitsProcessor": {"ngram_size": "3"},
}
PENALTY, NGRAM = "RepetitionPenaltyLogitsProcessor", "NoRepeatNGramLogitsProcessor"
HEAT, TOP_H, TOP_K = "TemperatureLogitsWarper", "TopHLogitsWarper", "TopKLogitsWarper"
TOP_P, MIN_P, NORM = "TopPLogitsWarper", "MinPLogitsWarper", "LogitNormalization"
MARK = "WatermarkLogitsProcessor"


def merged(*names: str, do_sample: bool = True, module: str = "") -> RunHeader:
    infos = tuple(
        ProcessorInfo(
            list_name="logits_processor", class_name=name, settings=SETTINGS.get(name, {}), module=module
        )
        for name in names
    )
    return merged_header(infos, do_sample=do_sample)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), ""),
        ((PENALTY,), "p"),
        ((HEAT, TOP_K, TOP_P), "www"),
        ((PENALTY, HEAT, TOP_H, TOP_K, NORM), "pwwwc"),
        ((PENALTY, "Own", TOP_K, MARK, NORM), "ppwcc"),
        ((TOP_K, HEAT, TOP_K), "pww"),  # the first is the caller's: generate() makes each once, in its order
        ((TOP_K, "Own"), "pp"),
        ((NORM, TOP_P), "pw"),
        ((MARK,), "c"),
    ],
)
def test_the_end_of_a_merged_list_is_warpers(names: tuple[str, ...], expected: str) -> None:
    assert "".join(role[0] for role in roles(merged(*names))) == expected


def test_a_greedy_run_has_no_warpers() -> None:
    # What looks like one is the caller's.
    assert roles(merged(PENALTY, TOP_K, NORM, do_sample=False)) == ("processor", "processor", "closing")


def test_a_class_of_somebodys_own_is_no_warper() -> None:
    assert roles(merged(HEAT, module="mine")) == ("processor",)


def test_two_lists_say_it_themselves() -> None:
    assert roles(synthetic_header()) == ("processor", "warper", "warper", "warper")


def changed(header: RunHeader, **settings: Any) -> list[str]:
    placed, _ = change_processors(parse_processors(header), Settings(**settings), do_sample=header.do_sample)
    infos = [describe(each, one_list=header.one_list) for each in placed]
    assert {info.list_name for info in infos} <= {"logits_processor"}
    return [info.class_name for info in infos]


def test_settings_that_are_added_to_a_merged_list() -> None:
    header = merged(NGRAM, HEAT, TOP_P, MARK, NORM)
    assert changed(header, top_k=5) == [NGRAM, HEAT, TOP_K, TOP_P, MARK, NORM]
    assert changed(header, min_p=0.1) == [NGRAM, HEAT, TOP_P, MIN_P, MARK, NORM]
    assert changed(header, repetition_penalty=1.2) == [PENALTY, NGRAM, HEAT, TOP_P, MARK, NORM]
    assert changed(merged(HEAT, NORM), repetition_penalty=1.2) == [PENALTY, HEAT, NORM]
    assert changed(merged(TOP_H, TOP_P), temperature=0.5, top_k=3) == [HEAT, TOP_H, TOP_K, TOP_P]
    assert changed(merged(NORM, do_sample=False), greedy=False, top_k=3) == [TOP_K, NORM]


def test_without_warpers_everything_else_stays() -> None:
    header = merged(PENALTY, TOP_K, "Own", HEAT, TOP_K, MARK, NORM)
    assert changed(header, greedy=True) == [PENALTY, TOP_K, "Own", MARK, NORM]
    assert changed(merged(HEAT, TOP_K), temperature=1.0) == [TOP_K]

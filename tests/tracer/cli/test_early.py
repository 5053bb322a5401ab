"""What needs no torch is refused before it is imported, and a typo is answered with the right word."""

from __future__ import annotations

import itertools
import json

import pytest
from transformers import GenerationConfig

from tests.support.command import Light, run_light
from tracer.errors import UsageError
from tracer.library.decoding_modes import decoding_mode
from tracer.loading.generation_settings import checked_settings, rules

PROMPT = ("--prompt", "w10")
LONG = "x" * 300

REFUSED: list[tuple[int, str, list[str]]] = [
    (2, "at least 1", ["--max-new-tokens", "0"]),
    (2, "at most", ["--max-new-tokens", "9" * 30]),
    (2, "above 0", ["--temperature", "-1"]),
    (2, "--greedy", ["--temperature", "0"]),
    (2, "not a number", ["--temperature", "nan"]),
    (2, "--top-p 1.5: it must be from 0 to 1", ["--top-p", "1.5"]),
    (2, "at least 0", ["--top-k", "-3"]),
    (2, "--gen typical_p=3", ["--gen", "typical_p=3"]),
    (2, "--gen min_p=x", ["--gen", "min_p=x"]),
    (2, "--gen use_cache=7", ["--gen", "use_cache=7"]),
    (2, "no such generation setting", ["--gen", "foo=1"]),
    (2, "Did you mean temperature?", ["--gen", "temprature=1"]),
    (2, "--max-new-tokens", ["--gen", "max_new_tokens=3"]),
    (2, "given twice", ["--greedy", "--gen", "do_sample=true"]),
    (2, "--top-k 999", ["--gen", "top_k=" + "9" * 5000]),
    (2, "min_p", ["--gen", "min_p=" + "[" * 100_000]),
    (3, "no such folder", ["--model", "/nowhere"]),
    (3, "Did you mean checkpoint?", ["--model", "./chekpoint"]),
    (3, "no config.json", ["--model", "."]),
    (3, "ame too long", ["--model", "x" * 5000]),
    (3, "home", ["--model", "~nobody-of-this-name/x"]),
    (4, "which the generation_config.json of layers sets", ["--model", "layers"]),
    (3, "line 2", ["--model", "unreadable"]),
    (2, "--dtype int8", ["--dtype", "int8"]),
    (2, "Did you mean bfloat16?", ["--dtype", "bf16"]),
    (2, "Did you mean sdpa?", ["--attn", "spda"]),
    (2, "--device-map", ["--device-map", "moon"]),
    (5, "no folder", ["--out", "nowhere/a.trace"]),
    (5, "exists already", ["--out", "old.trace"]),
    (5, "ame too long", ["--out", LONG]),
    (5, "ame too long", ["--out", "x" * 250]),
    (5, "ame too long", ["--out", "a.trace", "--html", LONG]),
    (5, "symbolic links", ["--out", "circle/a.trace"]),
    (5, "is a folder", ["--out", "."]),
    (2, "empty", ["--out", ""]),
    (2, "empty", ["--html", ""]),
    (2, "empty", ["--prompt-file", ""]),
    (2, "--capture tensors", ["--save", "logits"]),
    (2, "Did you mean logits?", ["--capture", "tensors", "--save", "logit"]),
    (2, "regular expression", ["--capture", "tensors", "--save", "modules=("]),
    (2, "Did you mean stats?", ["--capture", "statz"]),
    (2, "at least 1", ["--candidates", "0"]),
    (2, "not a number", ["--max-trace-size", "nan"]),
    (2, "not a number", ["--max-trace-size", "inf"]),
    (2, "above 0", ["--max-trace-size", "0"]),
    (2, "not a number", ["--attach", "--wait", "inf"]),
    (2, "whoever reaches", ["--attach", "--attach-host", "0.0.0.0"]),
    (2, "--steps 200", ["--steps", "200"]),
    (2, "--stop-steps 9", ["--step", "--stop-steps", "9", "--max-new-tokens", "8"]),
    (2, "p_chosn", ["--break", "p_chosn < 1"]),
    (2, "so no prompt", ["--prompt-file", "endless"]),
    (2, "Did you mean", ["--promt", "x"]),
]
COMPARED = [
    (2, "--top-p 1.5", ["--vary", "cache", "--top-p", "1.5"]),
    (3, "no such folder", ["--vary", "cache", "--model", "/nowhere"]),
    (2, "--dtype int8", ["--vary", "dtype", "--values", "int8,float32"]),
    (2, "Did you mean cache?", ["--vary", "cach"]),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Light]:
    folder = tmp_path_factory.mktemp("early")
    for name in ("checkpoint", "layers", "unreadable"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
        (folder / name / "model.safetensors").touch()
    (folder / "layers" / "generation_config.json").write_text(json.dumps({"use_mtp": True}))
    (folder / "unreadable" / "generation_config.json").write_text('{"top_k": 5,\n "top_p": }')
    (folder / "old.trace").touch()
    (folder / "circle").symlink_to("circle")
    with (folder / "endless").open("wb") as endless:
        endless.truncate(1 << 30)
    commands = [
        *([*PROMPT, *given] if "--prompt-file" not in given else given for _, _, given in REFUSED),
        *(["compare", *PROMPT, *given] for _, _, given in COMPARED),
    ]
    names = [" ".join(given) for _, _, given in (*REFUSED, *COMPARED)]
    return dict(zip(names, run_light(commands, cwd=folder), strict=True))


@pytest.mark.parametrize(
    ("code", "words", "given"), [*REFUSED, *COMPARED], ids=lambda each: str(each)[:60].replace("x" * 20, "x")
)
def test_before_torch(code: int, words: str, given: list[str], refused: dict[str, Light]) -> None:
    light = refused[" ".join(given)]
    assert light.complaint.count("\n") == 1, light.complaint
    assert words in light.complaint
    assert (light.code, light.imported, light.printed) == (code, [], "")


def test_every_setting_of_the_library_has_a_rule() -> None:
    known = vars(GenerationConfig()).keys() - {"_from_model_config", "transformers_version", "_commit_hash"}
    assert rules().keys() == known - {"_original_object_hash"}


def test_every_default_of_the_library_is_allowed() -> None:
    defaults = {name: value for name, value in GenerationConfig().to_dict().items() if name in rules()}
    assert checked_settings(defaults).keys() == defaults.keys()


def test_whole_numbers_are_made_what_the_library_wants() -> None:
    assert repr(checked_settings({"temperature": 2, "top_k": 3})) == "{'temperature': 2.0, 'top_k': 3}"


@pytest.mark.parametrize(
    "name", ["temperature", "top_k", "min_p", "eos_token_id", "use_cache", "stop_strings"]
)
def test_words_of_python_and_of_the_command_line(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        checked_settings({name: object()})
    assert "--" not in str(refused.value)
    assert "--" in refused.value.command_line


def test_modes_are_those_of_the_library() -> None:
    for beams, groups, sample, alpha, top_k in itertools.product(
        (1, 4), (1, 2), (False, True), (None, 0.0, 0.6), (None, 0, 1, 50)
    ):
        settings = {
            "num_beams": beams,
            "num_beam_groups": groups,
            "do_sample": sample,
            "penalty_alpha": alpha,
            "top_k": top_k,
        }
        config = GenerationConfig()
        for name, value in settings.items():
            setattr(config, name, value)
        assert decoding_mode(settings) == config.get_generation_mode().value, settings
    for name in ("dola_layers", "prompt_lookup_num_tokens", "force_words_ids"):
        config = GenerationConfig()
        setattr(config, name, [[1]])
        assert decoding_mode({name: [[1]]}) == config.get_generation_mode().value

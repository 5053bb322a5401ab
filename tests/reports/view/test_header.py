from __future__ import annotations

from reports.view import header_view
from tests.reports.records import TOKENS, header
from tracer.schema.run import RunHeader


def metadata(run: RunHeader) -> dict[str, tuple[str, str | None]]:
    return {each.name: (each.value, each.meaning) for each in header_view(run, TOKENS).metadata}


def test_query_heads_that_share_a_kv_head() -> None:
    found = metadata(header())
    assert found["query heads"][0] == "28"
    assert found["KV heads"][0] == "4"
    assert "7 query heads share one KV head" in (found["KV heads"][1] or "")


def test_what_an_architecture_lacks_is_left_out() -> None:
    run = header()
    bare = run.model_copy(
        update={"model": run.model.model_copy(update={"kv_heads": None, "attention": None})}
    )
    assert not {"KV heads", "attention"} & set(metadata(bare))


def test_cache_decoding_and_seed() -> None:
    assert metadata(header())["KV cache"][0] == "on"
    assert metadata(header(generation_config={"use_cache": "False"}))["KV cache"][0] == "off"
    assert metadata(header(do_sample=False))["decoding"][0] == "greedy"
    assert metadata(header(seed=None))["seed"][0] == "none set"


def test_devices() -> None:
    run = header()
    devices = {"model.embed_tokens": "cuda:0", "model.layers.0": "cuda:0", "lm_head": "cpu"}
    spread = run.model_copy(update={"model": run.model.model_copy(update={"devices": devices})})
    assert metadata(run)["devices"][0] == "cuda:0"
    assert metadata(spread)["devices"][0] == "cuda:0 (model.embed_tokens … model.layers.0), cpu (lm_head)"


def test_prompts_pipeline_and_settings() -> None:
    view = header_view(header(rows=2), TOKENS)
    assert [(prompt.row, prompt.padding, len(prompt.tokens)) for prompt in view.prompts] == [
        (0, 0, 29),
        (1, 1, 29),
    ]
    assert [fact.name for fact in view.pipeline][:2] == [
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
    ]
    assert view.pipeline[2].value == "top_k=20"
    assert {fact.name: fact.value for fact in view.settings}["top_p"] == "0.8"


def test_hostile_names_and_prompts_are_made_visible() -> None:
    run = header()
    hostile = run.model_copy(
        update={
            "model": run.model.model_copy(update={"name": "evil\x1b]0;title\x07"}),
            "prompt": (run.prompt[0].model_copy(update={"text": "line\n\x1b[2J\ud800"}),),
        }
    )
    view = header_view(hostile, TOKENS)
    assert view.model == "evil\\x1b]0;title\\x07"
    assert view.prompts[0].text == "line\n\\x1b[2J\\ud800"

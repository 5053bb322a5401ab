"""Options of a generation, which `run` and `compare` share: prompts, model, and how tokens are chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.options import FILE, NUMBER, Decorator, option_group
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.loading.model_spec import ModelSpec
    from tracer.loading.prompts import PromptSpec


@dataclass(frozen=True)
class PromptOptions:
    """What to generate from; the attributes are those of the command line."""

    prompts: tuple[str, ...]
    prompt_file: Path | None
    messages_file: Path | None
    system: str | None
    no_chat_template: bool

    def spec(self) -> PromptSpec:
        """The prompts, with files read. Needs no torch, whose import takes seconds.

        Raises:
            UsageError: a file cannot be read, or there is no prompt, an empty one, or both kinds.
        """
        from tracer.loading.prompts import PromptSpec, check_prompts, read_messages, read_prompt_file

        prompts = list(self.prompts)
        if self.prompt_file is not None:
            prompts.append(read_prompt_file(self.prompt_file))
        spec = PromptSpec(
            prompts=tuple(prompts),
            conversations=(read_messages(self.messages_file),) if self.messages_file is not None else (),
            system=self.system,
            chat_template=not self.no_chat_template,
        )
        check_prompts(spec)
        return spec


prompt_options = option_group(
    "prompt",
    PromptOptions,
    click.option(
        "--prompt", "prompts", multiple=True, metavar="TEXT", help="What to ask; repeat it for a batch."
    ),
    click.option("--prompt-file", type=FILE, metavar="FILE", help="Read the prompt from a file."),
    click.option(
        "--messages",
        "messages_file",
        type=FILE,
        metavar="FILE.json",
        help="Read chat messages: a JSON list of {role, content}.",
    ),
    click.option("--system", metavar="TEXT", help='System text (default: "You are a helpful assistant.").'),
    click.option("--no-chat-template", is_flag=True, help="Feed the prompt as it is."),
)


def _model_spec(**options: Any) -> ModelSpec:
    from tracer.loading.model_spec import ModelSpec

    # A form that a person leaves empty, such as that of an editor's task, means the demo model.
    return ModelSpec(**{**options, "name": options["name"] or None})


model_options = option_group(
    "model",
    _model_spec,
    click.option(
        "--model", "name", metavar="ID|FOLDER", help="Hub id or checkpoint folder (default: the demo model)."
    ),
    click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model."),
    click.option("--dtype", default="auto", show_default=True, help="auto, float32, float16 or bfloat16."),
    click.option(
        "--device-map", metavar="MAP", help="auto, cpu, cuda:0, … (default: a GPU when there is one)."
    ),
    click.option("--attn", "attention", metavar="NAME", help="Attention: sdpa, eager, flash_attention_2."),
    click.option("--trust-remote-code", is_flag=True, help="Allow code that comes with the model to run."),
    click.option(
        "--allow-damaged",
        is_flag=True,
        help="Run a checkpoint whose weights do not fit the model or whose own settings cannot be read.",
    ),
)


def max_new_tokens_option(default: int) -> Decorator:
    """``--max-new-tokens``.

    Args:
        default: tokens without the option.
    """
    return click.option(
        "--max-new-tokens", default=default, show_default=True, metavar="N", help="Generate at most N tokens."
    )


@dataclass(frozen=True)
class GenerationOptions:
    """How tokens are chosen; None leaves a setting to the model."""

    greedy: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    repetition_penalty: float | None
    seed: int | None
    gen: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Generation settings by their names in ``GenerationConfig``.

        Raises:
            UsageError: one is given twice.
        """
        named = {
            "do_sample": None if self.greedy is None else not self.greedy,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
        }
        chosen = {name: value for name, value in named.items() if value is not None}
        for name in chosen:
            if name in self.gen:
                raise UsageError(f"{name} is given twice, by an option of its own and by --gen; choose one.")
        return self.gen | chosen


def _gen_pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{value!r}: expected KEY=VALUE, e.g. min_p=0.1.")
        try:
            pairs[name.strip()] = json.loads(text)
        except (ValueError, RecursionError):  # no JSON, or a number or nesting beyond what Python reads
            pairs[name.strip()] = {"True": True, "False": False, "None": None}.get(text, text)
    return pairs


generation_options = option_group(
    "generation",
    GenerationOptions,
    click.option(
        "--greedy/--sample",
        "greedy",
        default=None,
        help="Take the best token, or draw (default: the model's).",
    ),
    click.option("--temperature", type=NUMBER, metavar="T", help="Scores are divided by it."),
    click.option("--top-k", type=int, metavar="K", help="Keep the K best tokens."),
    click.option("--top-p", type=NUMBER, metavar="P", help="Keep the best tokens up to this probability."),
    click.option(
        "--repetition-penalty", type=NUMBER, metavar="R", help="Make tokens that occurred less likely."
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**64 - 1),
        metavar="N",
        help="Seed of the draws (default: a new one).",
    ),
    click.option(
        "--gen",
        "gen",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_gen_pairs,
        help="Any other generation setting.",
    ),
)

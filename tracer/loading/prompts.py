"""From prompts to model inputs: chat template, tokens, left padding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.errors import UsageError
from tracer.messages import first_line, reason, shown

DEFAULT_SYSTEM = "You are a helpful assistant."

MAX_PROMPT_BYTES = 16 << 20
"""Bytes of a prompt file, at most: a device that never ends is none."""

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class PromptSpec:
    """What to generate from; each entry of ``prompts`` or ``conversations`` is a row of the batch.

    Attributes:
        prompts: plain prompts.
        conversations: chat messages, ``{"role": …, "content": …}`` each.
        system: system text for plain prompts; None for the usual one.
        chat_template: whether the tokenizer's chat template is applied.
    """

    prompts: tuple[str, ...] = ()
    conversations: tuple[Messages, ...] = ()
    system: str | None = None
    chat_template: bool = True


@dataclass(frozen=True)
class PreparedInputs:
    """Prompts ready for ``generate()``.

    Attributes:
        tensors: ``input_ids`` and ``attention_mask``, ``[rows, length]`` int64 on the CPU, left-padded.
        texts: what was tokenized, per row.
        notes: what the user should know, e.g. that there is no chat template.
    """

    tensors: dict[str, Any]
    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check_prompts(spec: PromptSpec) -> None:
    """Refuse what is no prompt, before a model is loaded.

    Raises:
        UsageError: for no prompt, an empty one, or both kinds.
    """
    if spec.prompts and spec.conversations:
        raise UsageError("Give either --prompt/--prompt-file or --messages, not both.")
    if not spec.prompts and not spec.conversations:
        raise UsageError("Nothing to generate from; pass --prompt, --prompt-file or --messages.")
    if any(not prompt.strip() for prompt in spec.prompts):
        raise UsageError("The prompt is empty.")
    if spec.system is not None and spec.conversations:
        raise UsageError("--system goes with --prompt; in --messages write a message with the role system.")


def read_prompt_file(path: Path) -> str:
    """The text of a prompt file, as it is.

    Raises:
        UsageError: if it cannot be read, does not end, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROMPT_BYTES + 1)
        if len(data) > MAX_PROMPT_BYTES:
            raise UsageError(f"{shown(path)}: longer than {MAX_PROMPT_BYTES >> 20} MiB, so no prompt.")
        # As Python reads text: every kind of line end is one.
        return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(path)}: not UTF-8 text (byte {error.start}).") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        raise UsageError(f"{shown(path)}: cannot be read: {reason(error)}.") from error


def read_messages(path: Path) -> Messages:
    """Chat messages from a JSON file: a list of objects with ``role`` and ``content``.

    Raises:
        UsageError: naming line and column of malformed JSON, or the message that has a wrong form.
    """
    try:
        found = json.loads(read_prompt_file(path))
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{shown(path)}: malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number with thousands of digits
        raise UsageError(f"{shown(path)}: cannot be read: {reason(error)}.") from error
    if not isinstance(found, list) or not found:
        raise UsageError(f"{shown(path)}: expected a list of messages, each with role and content.")
    for number, message in enumerate(found, 1):
        if not isinstance(message, dict) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise UsageError(f"{shown(path)}: message {number} needs a role and a content, both text.")
    return [{"role": message["role"], "content": message["content"]} for message in found]


def prepare_inputs(spec: PromptSpec, tokenizer: Any, max_positions: int | None) -> PreparedInputs:
    """Apply the chat template, tokenize and pad.

    Args:
        spec: the prompts.
        tokenizer: a Hugging Face tokenizer.
        max_positions: longest sequence of the model, None if unlimited.

    Raises:
        UsageError: if a prompt gives no tokens, does not fit the template, or is too long for the model.
    """
    check_prompts(spec)
    texts, templated, notes = _texts(spec, tokenizer)
    # The template has written its special tokens already; plain text gets the tokenizer's own.
    rows = [list(tokenizer(text, add_special_tokens=not templated)["input_ids"]) for text in texts]
    longest = max(len(row) for row in rows)
    if any(not row for row in rows):
        raise UsageError("The prompt gives no tokens.")
    if max_positions is not None and longest >= max_positions:
        raise UsageError(
            f"The prompt has {longest} tokens, the model takes {max_positions} positions, "
            "the generated tokens included; shorten the prompt."
        )
    return PreparedInputs(_padded(rows, _pad_token(tokenizer)), tuple(texts), tuple(notes))


def _texts(spec: PromptSpec, tokenizer: Any) -> tuple[list[str], bool, list[str]]:
    if not spec.chat_template or getattr(tokenizer, "chat_template", None) is None:
        if spec.conversations:
            raise UsageError(
                "--messages needs a chat template; this tokenizer has none, or --no-chat-template was given."
            )
        notes = []
        if spec.chat_template:
            notes.append("The tokenizer has no chat template: the prompt goes in as it is.")
        if spec.system is not None:
            notes.append("Without a chat template there is no place for the system text: it is left out.")
        return list(spec.prompts), False, notes
    conversations = spec.conversations or tuple(
        [
            {"role": "system", "content": DEFAULT_SYSTEM if spec.system is None else spec.system},
            {"role": "user", "content": prompt},
        ]
        for prompt in spec.prompts
    )
    return [_apply_template(tokenizer, messages, spec) for messages in conversations], True, []


def _apply_template(tokenizer: Any, messages: Messages, spec: PromptSpec) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:
        # Some templates refuse a system message that nobody asked for.
        if spec.system is None and not spec.conversations and messages[0]["role"] == "system":
            return _apply_template(tokenizer, messages[1:], spec)
        raise UsageError(f"The chat template refuses these messages: {first_line(error)}.") from error


def _pad_token(tokenizer: Any) -> int:
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(tokenizer, name, None) is not None:
            return int(getattr(tokenizer, name))
    return 0


def _padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Any]:
    import torch

    length = max(len(row) for row in rows)
    ids = [[pad] * (length - len(row)) + list(row) for row in rows]
    mask = [[0] * (length - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

"""Records of earlier format versions in the form of today's.

A record is upgraded as plain JSON before it is read; what it does not say stays at the field's default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json

Json: TypeAlias = dict[str, Any]


def head_of_version_1(text: bytes) -> bytes:
    """The head of a step of format 1.

    A check was made or left out without a word, a changed setting was the text ``NAME VALUE``, and the
    capture that failed was the prefix of the message.

    Args:
        text: the head as JSON.

    Raises:
        ValueError: it is no JSON.
    """
    return _changed(text, _upgrade_head)


def _changed(text: bytes, upgrade: Callable[[Json], None]) -> bytes:
    record = from_json(text)
    if not isinstance(record, dict):
        return text  # refused by the record itself
    upgrade(record)
    return to_json(record)


def _upgrade_head(head: Json) -> None:
    for each in _objects(head, "checks"):
        if isinstance(ok := each.pop("ok", None), bool):
            each["result"] = "held" if ok else "failed"
    for each in _objects(head, "errors"):
        name, found, _ = str(each.get("message")).partition(": ")
        if found and name in ("lens", "attention"):
            each["capture"] = name
    for each in _objects(head, "interventions"):
        if each.get("kind") == "set":
            each["setting"], _, value = str(each.get("detail")).rpartition(" ")
            each["value"] = float(value) if not value.lstrip("-").isdigit() else int(value)


def _objects(record: Json, name: str) -> list[Json]:
    """The objects of a list in a record; what is anything else is refused by the record itself."""
    items = record.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

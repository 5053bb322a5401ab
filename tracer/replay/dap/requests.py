"""Requests: each has a type of arguments and a handler, and gets one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError

from tracer.errors import TraceGenerateError, UsageError
from tracer.messages import named, one_line, reason
from tracer.replay.dap.arguments import Arguments
from tracer.replay.dap.client import Client


@dataclass(frozen=True)
class Reply:
    """An answer, and what follows it: a client expects the answer to a move before the halt.

    Attributes:
        body: body of the answer.
        then: called when the answer is sent; None for nothing.
    """

    body: Mapping[str, Any] = field(default_factory=dict)
    then: Callable[[], None] | None = None


@dataclass(frozen=True)
class Handler:
    """How a request is answered.

    Attributes:
        arguments: the type of its arguments.
        handle: makes the answer, or its body alone.
    """

    arguments: type[Arguments]
    handle: Callable[[Any], Reply | Mapping[str, Any]]


Handlers: TypeAlias = Mapping[str, Handler]
"""Handlers by the command that they answer."""


def respond(message: Mapping[str, Any], handlers: Handlers, client: Client) -> None:
    """Answer a request; whatever fails in it is the message of its answer.

    Args:
        message: the request.
        handlers: who answers what.
        client: who gets the answer.

    Raises:
        OSError: the connection is gone.
    """
    if message.get("type", "request") != "request":
        return  # an answer, though nothing was asked
    found = message.get("command")
    command = found if isinstance(found, str) else ""
    try:
        reply = _reply(command, message.get("arguments"), handlers)
    except ValidationError as error:
        client.refuse(message, f"{command}: {reason(error)}")
    except TraceGenerateError as error:
        client.refuse(message, one_line(error, 1000))
    except Exception as error:  # noqa: BLE001 - a fault in one answer must not end the session
        client.refuse(message, f"a defect of trace-generate: {named(error)}")
    else:
        client.answer(message, reply.body)
        if reply.then is not None:
            reply.then()


def _reply(command: str, arguments: object, handlers: Handlers) -> Reply:
    handler = handlers.get(command)
    if handler is None:
        raise UsageError(f"{one_line(command, 40)!r} is no request that a recording answers")
    found = handler.handle(handler.arguments.model_validate({} if arguments is None else arguments))
    return found if isinstance(found, Reply) else Reply(found)

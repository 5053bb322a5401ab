"""A process that has imported what a traced generation needs, and forks another for every order.

It has no threads, and what it imported is all that its children find.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import runpy
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass

NUMBER = struct.Struct("i")
"""What a process is known by: first its id, at its end how it ended as ``os.waitpid`` says it."""

_SIZE = 1 << 18  # of an order, in bytes
_STREAMS = 3


@dataclass(frozen=True)
class Order:
    """A process that is to be started.

    Attributes:
        arguments: of Python: ``-m``, a module and its arguments, or a script and its arguments; ``-u`` may be
            before them.
        folder: its working folder.
        variables: its environment.
        leads: whether it is the first of a session of its own.
        prepare: called in it before anything else.
    """

    arguments: tuple[str, ...]
    folder: str
    variables: dict[str, str]
    leads: bool
    prepare: Callable[[], object] | None


def main() -> None:
    """Take orders from the socket that is the first argument, until nobody is there to give any."""
    _import()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for those that watch
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        while True:
            order, descriptors, _, _ = socket.recv_fds(orders, _SIZE, _STREAMS + 1)
            if not order:
                return
            if not os.fork():
                orders.detach()
                *streams, said = descriptors
                _fork_and_watch(said)
                break
            for descriptor in descriptors:
                os.close(descriptor)
    _run(pickle.loads(order), streams)


def _import() -> None:
    import tracer.cli.commands.run
    import tracer.running.generation  # noqa: F401

    gc.collect()
    gc.freeze()


def _fork_and_watch(said: int) -> None:
    """Fork; the new process returns, this one says what it is known by and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if not process:
        return
    os.closerange(0, said)
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(said, NUMBER.pack(process))
        os.write(said, NUMBER.pack(os.waitpid(process, 0)[1]))
    os._exit(0)


def _run(order: Order, streams: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order.leads:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(_STREAMS, os.sysconf("SC_OPEN_MAX"))
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.variables)
    random.seed()
    unbuffered = order.arguments[0] == "-u"
    _open_streams(unbuffered)
    if order.prepare:
        order.prepare()
    first, *sys.argv = order.arguments[unbuffered:]
    if first == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv.insert(0, first)
        runpy.run_path(first, run_name="__main__")


def _open_streams(unbuffered: bool) -> None:
    """Text streams over what the numbers 0 to 2 are now: each keeps what it found out when it was made."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        buffering = 1 if name == "stderr" else -1
        stream = open(  # noqa: SIM115 - open until the process ends
            number, "w" if number else "r", buffering, before.encoding, before.errors, closefd=False
        )
        if number:
            stream.reconfigure(write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)

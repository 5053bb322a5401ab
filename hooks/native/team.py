"""Find the threads on which torch runs operations on a CPU, for compiled code to share out work to."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import NamedTuple

from hooks.native.torch_library import address_of, find_library


class Team(NamedTuple):
    """Where ``tracer/native/team.c`` finds the functions that it calls.

    Attributes:
        parallel: address of ``GOMP_parallel`` in the OpenMP runtime that torch is linked with, which runs a
            function on each thread of the calling thread's team.
        get_num_threads: address of ``at::get_num_threads``: how many threads there are.
    """

    parallel: int
    get_num_threads: int


NO_TEAM = Team(0, 0)
"""Each thread does its work alone."""


def find_team() -> Team:
    """The team of torch; :data:`NO_TEAM` where its library is another or linked with no OpenMP runtime."""
    try:
        library = find_library()
        # The linker has looked among what is there for all first: LD_PRELOAD puts another runtime there.
        runtime = next(each for each in (ctypes.CDLL(None), library) if hasattr(each, "GOMP_parallel"))
        return Team(address_of(runtime.GOMP_parallel), address_of(library._ZN2at15get_num_threadsEv))
    except (OSError, AttributeError, StopIteration):
        return NO_TEAM


def share_out(use_team: Callable[[int, int], None]) -> None:
    """Have a compiled module share out work to the team.

    Args:
        use_team: of that module.
    """
    team = find_team()
    use_team(*team)
    if team != NO_TEAM:
        # A forked process has a copy of the team without its threads, and would wait for them for ever.
        os.register_at_fork(after_in_child=lambda: use_team(*NO_TEAM))

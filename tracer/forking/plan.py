"""Plan a fork from the recording alone: what is repeated, and what is changed where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracer.analysis.rerun_plan import RerunPlan, generation_settings, plan_prefix
from tracer.analysis.runs import RecordedRun, check_row, require_choice_by_row, step_of
from tracer.errors import UsageError
from tracer.library.decoding_modes import require_same_loop, require_traced_mode
from tracer.loading.generation_settings import checked_settings
from tracer.schema.setting_text import setting_text

SAMPLING_ONLY = {"temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}
"""Settings that mean nothing without sampling, and about which the library would warn."""


@dataclass(frozen=True)
class Fork:
    """What a fork does in place of what its run did.

    Attributes:
        step: the first step that is its own, from 1.
        row: row of the batch whose choice is changed.
        token: id of the token to choose in that step; None to let it choose.
        banned: ids of tokens that it may not choose in that step.
        settings: generation settings from that step on, by their names in ``GenerationConfig``.
        seed: of the draws from that step on; None to go on with the run's own.
        max_new_tokens: tokens from that step on; None to end where the run's own limit is.
    """

    step: int
    row: int = 0
    token: int | None = None
    banned: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True, eq=False)
class ForkPlan:
    """How to bring a fork about.

    Attributes:
        fork: what it does.
        prefix: how to repeat the steps before it.
        settings: generation settings of the whole fork.
        given: the tokens of each step before it, a token a row.
        changed: numbers of the steps before it in which the run did not choose by itself.
        same_settings: whether the steps before it choose what they are given by themselves.
        continues_draws: whether it goes on with the run's own random numbers.
    """

    fork: Fork
    prefix: RerunPlan
    settings: dict[str, Any]
    given: tuple[tuple[int, ...], ...]
    changed: frozenset[int]
    same_settings: bool
    continues_draws: bool

    @property
    def samples(self) -> bool:
        """Whether it draws its tokens."""
        return bool(self.settings.get("do_sample"))

    @property
    def changed_settings(self) -> dict[str, str]:
        """The settings that differ from the run's, as text."""
        changed = {name: setting_text(value) for name, value in self.fork.settings.items()}
        if self.fork.max_new_tokens is not None:
            changed["max_new_tokens"] = setting_text(self.settings["max_new_tokens"])
        return changed


def plan_fork(run: RecordedRun, fork: Fork) -> ForkPlan:
    """Plan a fork.

    Args:
        run: the run to branch off.
        fork: what it does.

    Raises:
        UsageError: there is no such step, row or token, or the run cannot be repeated up to there.
    """
    check_fork(run, fork)
    prefix = plan_prefix(run, fork.step - 1)
    settings = _settings(prefix.settings, fork)
    length = prefix.ids.prompt.shape[1]
    return ForkPlan(
        fork=fork,
        prefix=prefix,
        settings=settings,
        given=tuple(tuple(column) for column in prefix.ids.expected[:, length:].T.tolist()),
        changed=frozenset(step.number for step in run.steps[: fork.step - 1] if step.head.interventions),
        same_settings=all(prefix.settings.get(name) == value for name, value in fork.settings.items()),
        continues_draws=run.header.do_sample and fork.seed is None,
    )


def check_fork(run: RecordedRun, fork: Fork) -> None:
    """Refuse what no run with this header can do.

    Args:
        run: the run to branch off.
        fork: what it does.

    Raises:
        UsageError: there is no such step, row, token or setting.
    """
    require_choice_by_row(run.header, "A fork")
    step_of(run, fork.step)
    check_row(run.header, fork.row)
    _check_tokens(run, fork)
    settings = checked_settings(fork.settings)
    require_traced_mode(settings)
    require_same_loop(run.header.loop, {**generation_settings(run.header), **settings})


def _settings(recorded: Mapping[str, Any], fork: Fork) -> dict[str, Any]:
    settings = {**recorded, **fork.settings}
    if "max_length" in fork.settings:
        settings.pop("max_new_tokens", None)  # which would take precedence
    if fork.settings.get("do_sample") is False:
        settings = {name: value for name, value in settings.items() if name not in SAMPLING_ONLY}
    if fork.max_new_tokens is not None:
        settings.pop("max_length", None)
        settings["max_new_tokens"] = fork.step - 1 + fork.max_new_tokens
    return settings


def _check_tokens(run: RecordedRun, fork: Fork) -> None:
    """Refuse ids that the model has not."""
    vocabulary = run.header.model.vocab_size
    for token in (*fork.banned, *(() if fork.token is None else (fork.token,))):
        if not 0 <= token < (vocabulary or 2**31):
            raise UsageError(
                f"there is no token {token}; the model has ids from 0 to {(vocabulary or 0) - 1}"
            )
    if fork.token is not None and fork.token in fork.banned:
        raise UsageError(f"token {fork.token} is to be forced and banned at once")
    if fork.max_new_tokens is not None and fork.max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens {fork.max_new_tokens}: a fork generates one token at least")

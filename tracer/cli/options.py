"""Options that commands share, and the frozen values that they become.

Options that belong together are one :func:`option_group`: a command receives them as one argument, a frozen
dataclass that is made once, before the command begins.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tracer.errors import UsageError
from tracer.messages import shown
from tracer.nearest_word import suggestion

if TYPE_CHECKING:
    from tracer.halting.stops import StepNumbers
    from tracer.rerun.model_source import ModelSource
    from tracer.tracefile import TraceFile, TraceRun

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def option_group(argument: str, make: Callable[..., object], *options: Decorator) -> Decorator:
    """Options whose values a command receives as one argument.

    Args:
        argument: name of the argument.
        make: makes its value; the options' values are its keyword arguments.
        options: in the order in which ``--help`` lists them.
    """
    names = [parameter.name or "" for option in options for parameter in _parameters(option)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def grouped(*arguments: Any, **values: Any) -> Any:
            own = {name: values.pop(name) for name in names}
            return command(*arguments, **values, **{argument: make(**own)})

        with_options: Callable[..., Any] = grouped
        for option in reversed(options):
            with_options = option(with_options)
        return with_options

    return decorate


def _parameters(option: Decorator) -> list[click.Parameter]:
    """What an option adds to a command."""
    found: list[click.Parameter] = vars(option(lambda: None))["__click_params__"]
    return found


class FilePath(click.Path):
    """A path; an empty one means nothing."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Refuse an empty path, which would mean the current folder."""
        if value == "":
            self.fail("it is empty; name a file.", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.ParamType["float"]):
    """A number that one can count with: neither infinite nor NaN.

    Args:
        above: the number is greater than this; None for no limit.
    """

    name = "number"

    def __init__(self, above: float | None = None) -> None:
        self._above = above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a value of an option."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        if self._above is not None and number <= self._above:
            self.fail(f"{value} is not possible: it must be above {self._above:g}.", param, ctx)
        return number


class Word(click.Choice["str"]):
    """One of several words; a typo is answered with the nearest one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Say which words there are, and which one was probably meant."""
        return super().get_invalid_choice_message(value, ctx) + suggestion(str(value), self.choices)


FILE = FilePath(path_type=Path)
NUMBER = Number()


@dataclass(frozen=True)
class StepChoice:
    """Steps that a user chose; called with a number, it says whether that step is meant.

    Attributes:
        numbers: their numbers.
        given: the option as it was written; None where its default is meant.
    """

    numbers: StepNumbers
    given: str | None

    def __call__(self, step: int) -> bool:
        """Whether a step is meant."""
        return step in self.numbers

    def check(self, last: int, where: str) -> None:
        """Refuse steps that there are not.

        Args:
            last: number of the last step.
            where: what has the steps, for the message.

        Raises:
            UsageError: a part of the option means no step at all.
        """
        if self.given is not None and self.numbers.in_vain(last):
            raise UsageError(f"--steps {self.given}: {where} has {last} steps at most.")


class StepSet(click.ParamType["StepChoice"]):
    """``1,2``, ``3-7``, ``all`` or ``none``."""

    name = "steps"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> StepChoice:
        """Parse a value of the option."""
        if isinstance(value, StepChoice):
            return value
        from tracer.halting.stops import parse_steps

        source = ctx.get_parameter_source(param.name) if ctx and param and param.name else None
        try:
            return StepChoice(parse_steps(value), value if source is ParameterSource.COMMANDLINE else None)
        except UsageError as error:
            self.fail(str(error), param, ctx)


trace_argument = click.argument("path", type=FILE, metavar="RUN.trace")
step_option = click.option("--step", "number", type=int, required=True, metavar="N", help="Which step.")
row_option = click.option("--row", default=0, show_default=True, metavar="R", help="Row of a batch.")
run_option = click.option("--run", "run_number", type=int, metavar="N", help="Which run of the file.")
redact_option = click.option(
    "--redact",
    is_flag=True,
    help="Leave out what the run says: texts, token ids and paths; figures stay.",
)
only_run_option = click.option(
    "--run", "run_number", type=int, metavar="N", help="Only this run of the file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def source_options(where: str = "") -> Decorator:
    """Where the model of a recorded run is now.

    Args:
        where: what the options need, for the help.
    """
    return option_group(
        "source",
        _model_source,
        click.option("--model", metavar="ID|FOLDER", help=f"{where}where the model is now."),
        click.option("--revision", metavar="REV", help=f"{where}branch, tag or commit of a hub model."),
        click.option("--trust-remote-code", is_flag=True, help=f"{where}allow the model's own code to run."),
    )


def _model_source(model: str | None, revision: str | None, trust_remote_code: bool) -> ModelSource:
    from tracer.rerun.model_source import ModelSource

    return ModelSource(model or None, revision, trust_remote_code)


def steps_option(default: str, meaning: str) -> Decorator:
    """``--steps``.

    Args:
        default: steps without the option.
        meaning: for the help.
    """
    return click.option(
        "--steps",
        type=StepSet(),
        default=default,
        show_default=True,
        metavar="1,2|3-7|all|none",
        help=meaning,
    )


def force_option(replaced: str) -> Decorator:
    """``--force``.

    Args:
        replaced: what it replaces, for the help.
    """
    return click.option("--force", is_flag=True, help=f"Replace {replaced}.")


def no_torch_option(lost: str) -> Decorator:
    """``--no-torch``.

    Args:
        lost: what the answer lacks then, for the help.
    """
    return click.option("--no-torch", is_flag=True, help=f"Answer at once from the record; {lost}.")


def break_option(meaning: str) -> Decorator:
    """``--break``; a condition that makes no sense is refused before anything is loaded.

    Args:
        meaning: for the help.
    """
    return click.option(
        "--break", "breaks", multiple=True, metavar="EXPR", callback=_checked_conditions, help=meaning
    )


def _checked_conditions(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    if values:
        from tracer.analysis.conditions.condition import parse_condition

        for value in values:
            parse_condition(value)
    return values


def page_beside(trace: Path) -> Path:
    """The HTML page that belongs to a trace: its name with another ending."""
    return trace.with_suffix(".html") if trace.name else trace


def comparison_page_option(usual: str) -> Decorator:
    """``--html [PATH]``.

    Args:
        usual: where the page goes without a path, for the help.
    """
    return click.option(
        "--html",
        "page",
        is_flag=False,
        flag_value="",
        metavar="[PATH]",
        help=f"Make an HTML page of both runs side by side (default: {usual}).",
    )


def comparison_page(
    given: str | None, usual: Path, *, force: bool, apart_from: tuple[Path, ...] = ()
) -> Path | None:
    """Where the page goes, refused before any work is done for it; None for no page.

    Args:
        given: what follows ``--html``, empty for nothing; None without the option.
        usual: where to if nothing follows.
        force: replace an existing page.
        apart_from: files that it must not replace.

    Raises:
        UsageError: the page would replace a trace.
        OutputError: it exists already, or its folder does not.
    """
    if given is None:
        return None
    from tracer.output_files import check_output, same_place

    target = Path(given) if given else usual
    if any(same_place(target, path) for path in apart_from):
        raise UsageError(f"--html {shown(target)} is one of the traces; name another file after --html.")
    check_output(target, force=force)
    return target


def run_of_option(recording: TraceFile, number: int | None, option: str = "--run") -> TraceRun:
    """The run that an option means.

    Args:
        recording: an open trace.
        number: the option's value; None where there is one run only.
        option: its name.

    Raises:
        UsageError: there is no such run, or several and none is named.
    """
    if number is not None:
        return recording.run(number)
    runs = recording.runs
    if len(runs) > 1:
        raise UsageError(
            f"{shown(recording.path)} holds {len(runs)} runs; choose one with {option} 1 … {len(runs)}."
        )
    if not runs:
        raise UsageError(f"{shown(recording.path)} holds no run: it ended before a generation began.")
    return runs[0]


def token_of_option(query: str, run: TraceRun) -> int:
    """The token that ``--token`` means.

    Args:
        query: an id or a text.
        run: the run whose token texts are searched.

    Raises:
        UsageError: no token fits, or several do; they are listed.
    """
    from tracer.analysis.token_search import one_token

    try:
        return one_token(query, run.tokens)
    except UsageError as error:
        raise UsageError(f"--token {error}") from None

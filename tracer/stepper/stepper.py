"""The stepper: halts a run, shows the state there, and executes commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from rich.console import Console, RenderableType

from reports.terminal import render_card, render_step
from reports.terminal.halt import render_halt, render_note, render_pairs, render_text
from reports.terminal.report import TerminalReport
from reports.view.blocks import Note
from reports.view.run.fork import fork_text
from reports.view.stops.step import step_view, stop_title
from reports.view.text import plain
from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.errors import TraceGenerateError
from tracer.forking.order import ForkDesk, Order, place_order
from tracer.halting.callback import Halt, StopCallback
from tracer.halting.live_run import LiveRun
from tracer.halting.stops import NO_STEPS, StopPlan
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step
from tracer.stepper import answers, whatif
from tracer.stepper.changes import change_choice, change_setting
from tracer.stepper.commands import COMMANDS, HELP_END, parse_command, parse_count, parse_fork
from tracer.stepper.completion import complete, completions
from tracer.stepper.lines import Lines
from tracer.stepper.past import OpenPast, Past
from tracer.stepper.tables import short_path
from tracer.stepper.tokens import token_and_row


class Stepper:
    """A stop handler that reads a command at each halt and executes it.

    Ctrl-C and ``q`` end the generation by a ``KeyboardInterrupt``, its trace closed; after the end of input
    it goes on to its end without halts.

    Args:
        plan: where ``n`` and ``s`` halt, and the conditions in force from the start.
        lines: source of the commands.
        console: where everything is printed.
        open_past: gives the past of a halted run.
        desk: where a fork is ordered; None where the program itself has called ``generate()``.
        on_begin: called when a run begins, before anything is printed.

    Attributes:
        halted: numbers of the steps of the run in which it halted.
        left: those of them that it left before their last card.
    """

    def __init__(
        self,
        plan: StopPlan,
        lines: Lines,
        console: Console,
        open_past: OpenPast,
        *,
        desk: ForkDesk | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        self.halted: set[int] = set()
        self.left: set[int] = set()
        self._plan = plan
        self._lines = lines
        self._console = console
        self._open_past = open_past
        self._desk = desk
        self._on_begin = on_begin
        self._here = plan
        self._callback = StopCallback(plan, self._halt)
        self._live: LiveRun | None = None
        self._until: Condition | None = None
        self._closed = False
        self._order: Order | None = None
        self._resuming: dict[str, Callable[[Halt, str], None]] = {
            "n": self._next,
            "s": self._step,
            "c": self._continue,
            "u": self._run_until,
            "q": self._quit,
        }
        self._answering: dict[str, Callable[[Halt, str], None]] = {
            "p": lambda halt, text: self._show(answers.evaluate(halt, text)),
            "l": lambda halt, text: self._show(answers.listing(halt, parse_count(text, 9))),
            "w": lambda halt, _: self._show(answers.stack(halt)),
            "kv": lambda halt, _: self._show(answers.cache(halt)),
            "top": lambda halt, text: self._show(answers.top(halt, parse_count(text, 10), 0)),
            "why": self._why,
            "whatif": lambda halt, text: self._show(*whatif.whatif_in_step(halt, text)),
            "diff": lambda halt, text: self._show(whatif.diff_so_far(halt, text)),
            "b": self._break,
            "force": lambda halt, text: self._say(change_choice("force", halt, text), "warning"),
            "ban": lambda halt, text: self._say(change_choice("ban", halt, text), "warning"),
            "set": lambda halt, text: self._say(change_setting(halt, text), "warning"),
            "h": self._help,
        }

    @property
    def faults(self) -> Sequence[str]:
        """Errors of the stepper itself, one line each; the generation went on."""
        return self._callback.faults

    def begin(self, live: LiveRun) -> None:
        """Prepare for a run that starts."""
        if self._on_begin is not None:
            self._on_begin()
        self._show_fork(live)
        self._live, self._until, self._order = live, None, None
        self.halted.clear()
        self.left.clear()
        self._here = self._plan.from_step(live.first_own_step)
        self._follow(self._here)
        if not self._closed:
            self._callback.begin(live)

    def between_steps(self) -> None:
        """Note the end of a step, and leave the run where a fork of this step was ordered."""
        if self._order is not None:
            raise self._order.leaving
        self._callback.between_steps()

    def end(self) -> None:
        """Print what became known after the last halt of a run that is over."""
        self._callback.end()
        live, self._live = self._live, None
        if live is None or not self.halted or max(self.halted) in self.left:
            return
        live.flush()
        for card in live.cards():
            self._show(render_card(card))

    def _show_fork(self, live: LiveRun) -> None:
        """Say which run a fork goes on from; its model and its prompt are those that were shown."""
        origin = None if live.header is None else live.header.fork
        if origin is None:
            return
        for token in (*origin.banned, *(() if origin.token is None else (origin.token,))):
            live.learn(token)
        self._show(
            render_halt(f"Run {live.number}", "", (), 0, [Note(fork_text(origin, live.tokens), "explain")])
        )

    def _halt(self, halt: Halt) -> None:
        # Reports of earlier steps are printed by the writer's thread; they come first.
        halt.live.flush()
        self._show_halt(halt)
        past = self._open_past(halt, self._plan.stops, self._console)
        try:
            while self._asks(halt, past):
                pass
        finally:
            past.close()

    def _asks(self, halt: Halt, past: Past) -> bool:
        """Read a command and execute it; returns whether the run stands still after it."""
        prompt = past.prompt if past.away else f"({halt.stop or 'end'} {halt.step}) "
        line = self._lines.read(prompt, lambda text: self._completed(text, halt, past))
        if line is None:
            self._closed = True
            self._leave(halt)
            self._callback.detach()
            return False
        try:
            return self._execute(halt, past, *parse_command(line))
        except TraceGenerateError as error:
            self._say(str(error), "error")
            return True

    def _execute(self, halt: Halt, past: Past, name: str, argument: str) -> bool:
        if past.takes(name, argument):
            if past.execute(name, argument, self._plan.breaks):
                self._show_place(halt)
            return True
        if name in self._resuming:
            self._resuming[name](halt, argument)
            return False
        if name == "fork":
            self._fork(halt, past.step, argument)
            return False
        self._answering[name](halt, argument)
        return True

    def _completed(self, text: str, halt: Halt, past: Past) -> Iterable[str]:
        return complete(text, COMMANDS, past.arguments) if past.away else completions(text, halt)

    def _show_halt(self, halt: Halt) -> None:
        self._show_new_cards(halt)
        self.halted.add(halt.step)
        if self._until is not None and any(hit.condition == self._until.text for hit in halt.hits):
            self._until = None
        self._show_place(halt)

    def _show_place(self, halt: Halt) -> None:
        frame = halt.frame
        self._show(
            render_halt(
                _title(halt),
                f"{short_path(frame.f_code.co_filename).split('/', 1)[-1]}:{frame.f_lineno}",
                answers.source_around(frame, 2),
                frame.f_lineno,
                [Note(f"break: {plain(str(hit))}", "warning") for hit in halt.hits],
            )
        )

    def _show_new_cards(self, halt: Halt) -> None:
        """Print the cards since the last halt; at the end of a step without earlier halts, the whole step."""
        cards, live = halt.cards, halt.live
        for card in cards:
            self._show(render_card(card))
        if cards or halt.stop is not None or halt.step in self.halted:
            return
        if halt.record is not None and live.header is not None:
            self._show(render_step(step_view(live.header, halt.record, live.tokens)))

    def _next(self, _halt: Halt, _argument: str) -> None:
        self._follow(self._here)

    def _step(self, halt: Halt, _argument: str) -> None:
        self._follow(replace(self._here, steps=self._here.steps.beyond(halt.step)))

    def _continue(self, halt: Halt, _argument: str) -> None:
        self._leave(halt)
        if self._plan.breaks:
            self._follow(replace(self._plan, steps=NO_STEPS))
        else:
            self._callback.detach()

    def _run_until(self, halt: Halt, argument: str) -> None:
        self._until = parse_condition(argument)
        self._leave(halt)
        self._follow(replace(self._plan, steps=NO_STEPS))

    def _fork(self, halt: Halt, step: int, argument: str) -> None:
        """Leave the run for a fork: at once, or at the end of its step where the fork is of that."""
        order = place_order(self._desk, halt.live, halt.record, step, parse_fork(argument))
        self._leave(halt)
        if halt.stop is None or order.fork.step < halt.step:
            raise order.leaving
        self._order = order
        self._callback.plan = replace(self._plan, steps=NO_STEPS, breaks=())

    def _quit(self, _halt: Halt, _argument: str) -> None:
        raise KeyboardInterrupt

    def _follow(self, plan: StopPlan) -> None:
        until = () if self._until is None else (self._until,)
        self._callback.plan = replace(plan, breaks=(*self._plan.breaks, *until))

    def _leave(self, halt: Halt) -> None:
        """Note that the rest of this step is not shown, so that a line reports its outcome."""
        self.left.add(halt.step)

    def _why(self, halt: Halt, argument: str) -> None:
        token, row = token_and_row(argument, halt.live) if argument else (None, 0)
        self._show(answers.explain(halt, token, row or 0))

    def _break(self, halt: Halt, argument: str) -> None:
        self._plan = replace(self._plan, breaks=(*self._plan.breaks, parse_condition(argument)))
        self._show(render_text([f"halts where {condition.text}" for condition in self._plan.breaks]))

    def _help(self, _halt: Halt, _argument: str) -> None:
        rows = [(f"{each.name} {each.argument}".strip(), each.meaning) for each in COMMANDS]
        self._show(render_pairs(rows))
        self._show(render_text(HELP_END))

    def _show(self, *what: RenderableType) -> None:
        for each in what:
            self._console.print(each)

    def _say(self, text: str, level: Literal["error", "warning"]) -> None:
        self._show(render_note(Note(plain(text), level)))


def _title(halt: Halt) -> str:
    if halt.stop is None:
        return f"End of step {halt.step}"
    assert halt.live.header is not None
    return f"Step {halt.step}, before {halt.live.header.number(halt.stop)} {stop_title(halt.stop)}"


class SteppedReport:
    """A listener that reports the steps which the stepper has not shown itself.

    Args:
        report: prints the steps.
        stepper: knows in which it halted.
    """

    def __init__(self, report: TerminalReport, stepper: Stepper) -> None:
        self._report = report
        self._stepper = stepper
        self._given = 0

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """Report a run that begins; the stepper itself says what a fork is."""
        self._given = 0 if header.fork is None else header.fork.step - 1
        self._report.on_run(number, header, tokens, printed=header.fork is None)

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """Report a recorded step: as usual, in a line if the stepper left it, else not at all.

        The steps that are given to a fork were reported in its parent.
        """
        stepper = self._stepper
        shown = step.number in stepper.halted or step.number <= self._given
        left = step.number in stepper.left
        self._report.on_step(step, tokens, as_what=("line" if left else "nothing") if shown else "usual")

    def on_end(self, end: RunEnd | None) -> None:
        """Report the end of a run."""
        self._report.on_end(end)

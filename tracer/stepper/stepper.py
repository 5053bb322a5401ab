"""The stepper: halts a run, shows where it stands, and does what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from rich.console import Console, RenderableType

from hooks.loop.interventions import TokenChange
from reports.terminal import render_card, render_step
from reports.terminal.halt import render_halt, render_note, render_pairs, render_text
from reports.terminal.report import TerminalReport
from reports.view.blocks import Note
from reports.view.stops.step import step_view, stop_title
from reports.view.text import plain
from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.errors import TraceGenerateError
from tracer.halting.callback import Halt, StopCallback
from tracer.halting.live_run import LiveRun
from tracer.halting.stops import NO_STEPS, StopPlan
from tracer.schema.run import STOPS, RunEnd, RunHeader, StopName, TokenText
from tracer.schema.step import Step
from tracer.stepper import answers, whatif
from tracer.stepper.commands import COMMANDS, HELP_END, parse_command, parse_count, parse_setting, parse_token
from tracer.stepper.completion import completions
from tracer.stepper.lines import Lines
from tracer.stepper.tokens import named, the_token

if TYPE_CHECKING:
    from torch import Tensor

_BEFORE_CHOICE: tuple[StopName, ...] = ("softmax", "choice")
"""Stops at which the processors have run and the choice is not made."""

_CHOSEN: tuple[StopName | None, ...] = ("append", "update", "stopping", None)
"""Stops at which the choice of the step is made."""


class Stepper:
    """A stop handler that asks at each halt what to do.

    Ctrl-C and ``q`` end the generation by a ``KeyboardInterrupt``, its trace closed; the end of input lets
    it go on to its end without halts.

    Attributes:
        looked_at: steps of the run in which it halted.
        left: those of them whose later cards were not waited for.
    """

    def __init__(
        self,
        plan: StopPlan,
        lines: Lines,
        console: Console,
        *,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            plan: where ``n`` and ``s`` halt, and the conditions that are there from the start.
            lines: where commands come from.
            console: where everything is shown.
            on_begin: called when a run begins, before anything is shown.
        """
        self.looked_at: set[int] = set()
        self.left: set[int] = set()
        self._plan = plan
        self._lines = lines
        self._console = console
        self._on_begin = on_begin
        self._halting = StopCallback(plan, self._halt)
        self._live: LiveRun | None = None
        self._until: Condition | None = None
        self._closed = False
        self._go: dict[str, Callable[[Halt, str], None]] = {
            "n": self._next,
            "s": self._step,
            "c": self._continue,
            "u": self._run_until,
            "q": self._quit,
        }
        self._answer: dict[str, Callable[[Halt, str], None]] = {
            "p": lambda halt, text: self._show(answers.evaluated(halt, text)),
            "l": lambda halt, text: self._show(answers.listing(halt, parse_count(text, 9))),
            "w": lambda halt, _: self._show(answers.stack(halt)),
            "kv": lambda halt, _: self._show(answers.cache(halt)),
            "top": lambda halt, text: self._show(answers.top(halt, parse_count(text, 10), 0)),
            "why": self._why,
            "whatif": lambda halt, text: self._show(*whatif.other_settings(halt, text)),
            "diff": lambda halt, text: self._show(whatif.other_run(halt, text)),
            "b": self._break,
            "force": self._force,
            "ban": self._ban,
            "set": self._set,
            "h": self._help,
        }

    @property
    def faults(self) -> Sequence[str]:
        """What went wrong in the stepper itself, one line each; the generation went on."""
        return self._halting.faults

    def begin(self, live: LiveRun) -> None:
        """A run starts."""
        if self._on_begin is not None:
            self._on_begin()
        self._live, self._until = live, None
        self.looked_at.clear()
        self.left.clear()
        if not self._closed:
            self._halting.begin(live)

    def between_steps(self) -> None:
        """A step is over."""
        self._halting.between_steps()

    def end(self) -> None:
        """The run is over: what the last halt has not shown yet is shown."""
        self._halting.end()
        live, self._live = self._live, None
        if live is None or not self.looked_at or max(self.looked_at) in self.left:
            return
        live.flush()
        for card in live.cards():
            self._show(render_card(card))

    def _halt(self, halt: Halt) -> None:
        # What earlier steps have to say is printed by another thread; it comes first.
        halt.live.flush()
        self._show_halt(halt)
        prompt = f"({halt.stop or 'end'} {halt.step}) "
        while True:
            line = self._lines.read(prompt, lambda text: completions(text, halt))
            if line is None:
                self._closed = True
                self._leave(halt)
                self._halting.detach()
                return
            try:
                name, argument = parse_command(line)
                if name in self._go:
                    self._go[name](halt, argument)
                    return
                self._answer[name](halt, argument)
            except TraceGenerateError as error:
                self._say(str(error), "error")

    def _show_halt(self, halt: Halt) -> None:
        live = halt.live
        cards = halt.cards
        for card in cards:
            self._show(render_card(card))
        if not cards and halt.stop is None and halt.step not in self.looked_at:
            record = halt.record
            if record is not None and live.header is not None:
                self._show(render_step(step_view(live.header, record, live.tokens)))
        self.looked_at.add(halt.step)
        if self._until is not None and any(hit.condition == self._until.text for hit in halt.hits):
            self._until = None
        frame = halt.frame
        if halt.stop is None:
            title = f"End of step {halt.step}"
        else:
            title = f"Step {halt.step}, before {STOPS.index(halt.stop)} {stop_title(halt.stop)}"
        self._show(
            render_halt(
                title,
                f"{answers.short_path(frame.f_code.co_filename).split('/', 1)[-1]}:{frame.f_lineno}",
                answers.source_around(frame, 2),
                frame.f_lineno,
                [Note(f"break: {plain(str(hit))}", "warning") for hit in halt.hits],
            )
        )

    def _next(self, _halt: Halt, _argument: str) -> None:
        self._follow(self._plan)

    def _step(self, halt: Halt, _argument: str) -> None:
        self._follow(replace(self._plan, steps=self._plan.steps.beyond(halt.step)))

    def _continue(self, halt: Halt, _argument: str) -> None:
        self._leave(halt)
        if self._plan.breaks:
            self._follow(replace(self._plan, steps=NO_STEPS))
        else:
            self._halting.detach()

    def _run_until(self, halt: Halt, argument: str) -> None:
        self._until = parse_condition(argument)
        self._leave(halt)
        self._follow(replace(self._plan, steps=NO_STEPS))

    def _quit(self, _halt: Halt, _argument: str) -> None:
        raise KeyboardInterrupt

    def _follow(self, plan: StopPlan) -> None:
        until = () if self._until is None else (self._until,)
        self._halting.plan = replace(plan, breaks=(*self._plan.breaks, *until))

    def _leave(self, halt: Halt) -> None:
        """The rest of this step is not shown, so its outcome is reported in a line."""
        self.left.add(halt.step)

    def _why(self, halt: Halt, argument: str) -> None:
        query, row = parse_token(argument, self._rows(halt))
        token = the_token(query, halt.live, self._vocabulary(halt))
        self._show(answers.explained(halt, token, row or 0))

    def _break(self, halt: Halt, argument: str) -> None:
        if argument:
            self._plan = replace(self._plan, breaks=(*self._plan.breaks, parse_condition(argument)))
        listed = [f"halts where {condition.text}" for condition in self._plan.breaks]
        self._show(render_text(listed or ["No conditions; b EXPR adds one."]))

    def _force(self, halt: Halt, argument: str) -> None:
        self._change("force", halt, argument)

    def _ban(self, halt: Halt, argument: str) -> None:
        self._change("ban", halt, argument)

    def _change(self, kind: Literal["force", "ban"], halt: Halt, argument: str) -> None:
        query, row = parse_token(argument, self._rows(halt))
        live = halt.live
        token = the_token(query, live, self._vocabulary(halt))
        place = "" if row is None else f" row {row}"
        change = TokenChange(
            "force" if kind == "force" else "ban", token, row, f"{named(token, live)}{place}"
        )
        scores: Tensor | None = None
        if halt.stop in _BEFORE_CHOICE:
            scores = halt.changes.get("next_token_scores", halt.local["next_token_scores"])
        changed = live.change_choice(change, scores)
        if changed is not None:
            halt.changes["next_token_scores"] = changed
            if halt.stop == "choice" and live.header is not None and live.header.do_sample:
                halt.changes["probs"] = changed.softmax(dim=-1)
        when = f"step {halt.step + 1}" if halt.stop in _CHOSEN else f"step {halt.step}"
        self._say(f"{kind} {change.detail}: in the choice of {when}", "warning")

    def _set(self, halt: Halt, argument: str) -> None:
        name, value = parse_setting(argument)
        self._say(f"set {halt.live.change_setting(name, value)}: until the run ends", "warning")

    def _help(self, _halt: Halt, _argument: str) -> None:
        rows = [(f"{each.name} {each.argument}".strip(), each.meaning) for each in COMMANDS]
        self._show(render_pairs(rows))
        self._show(render_text(HELP_END))

    def _rows(self, halt: Halt) -> int:
        assert halt.live.header is not None
        return len(halt.live.header.prompt)

    def _vocabulary(self, halt: Halt) -> int:
        assert halt.live.header is not None
        return halt.live.header.model.vocab_size or 0

    def _show(self, *what: RenderableType) -> None:
        for each in what:
            self._console.print(each)

    def _say(self, text: str, level: str) -> None:
        self._show(render_note(Note(plain(text), "error" if level == "error" else "warning")))


class SteppedReport:
    """A listener that reports the steps which the stepper has not shown itself."""

    def __init__(self, report: TerminalReport, stepper: Stepper) -> None:
        """Prepare.

        Args:
            report: prints.
            stepper: knows what it has shown.
        """
        self._report = report
        self._stepper = stepper

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """A run begins."""
        self._report.on_run(number, header, tokens)

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """A step is recorded."""
        stepper = self._stepper
        shown = step.number in stepper.looked_at
        left = step.number in stepper.left
        self._report.on_step(step, tokens, as_what=("line" if left else "nothing") if shown else "usual")

    def on_end(self, end: RunEnd | None) -> None:
        """The run is over."""
        self._report.on_end(end)

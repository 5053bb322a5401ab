"""How the runs of a trace branch off one another, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from reports.recorded_run import Run
from reports.terminal import theme
from reports.view.run.branches import BranchView, trunk_views
from tracer.analysis.branches import Branch


def render_tree(found: Sequence[Branch], runs: Mapping[int, Run], row: int) -> RenderableType:
    """A tree for each prompt: runs below it, and below each those that branch off it.

    Args:
        found: how the runs branch.
        runs: the runs, by number.
        row: row of the batch.
    """
    trees = []
    for trunk in trunk_views(found, runs, row):
        tree = Tree(Text(trunk.prompt), guide_style=theme.QUIET)
        tree.add(_tree(trunk.run))
        trees.append(tree)
    return Group(*trees)


def _tree(view: BranchView) -> Tree:
    tree = Tree(_label(view), guide_style=theme.QUIET)
    for each in view.branches:
        tree.add(_tree(each))
    return tree


def _label(view: BranchView) -> Text:
    name = f"run {view.number}, {view.origin}" if view.origin else f"run {view.number}"
    label = Text("; ".join(filter(None, (name, view.first, *view.figures))))
    if view.text:
        label.append(f"\n{view.text}", style=theme.QUIET)
    return label

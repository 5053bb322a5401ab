"""The page's modules as one script: each in a function of its own, imports looked up among the others.

A page that loads nothing cannot use ``import``, and its security policy names the one script it may run by
hash. Only the plain forms are understood: ``import { a, b } from "./name.js";`` on its own lines (the path is
relative to the file) and ``export`` before a declaration.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.{1,2}/[\w/-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const|class) (\w+))", re.MULTILINE)
_LEFT_OVER = re.compile(r"^\s*(?:import|export)\b(?!\()", re.MULTILINE)


def page_modules() -> dict[str, str]:
    """The modules of all pages by their path below ``assets``."""
    return {
        path.relative_to(ASSETS).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(ASSETS.rglob("*.js"))
    }


def page_style(*more: str) -> str:
    """The style sheet of all pages.

    Args:
        more: further style sheets that follow it.
    """
    return "".join((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", *more))


def bundle(modules: Mapping[str, str], entry: str) -> str:
    """One script that runs a module after all that it imports.

    Args:
        modules: sources by path.
        entry: the module to run last; what it does not reach is left out.

    Raises:
        ValueError: an import that leads nowhere or in a circle, a form that is not understood, or text that
            cannot stand in a page.
    """
    order: list[str] = []
    _visit(entry, modules, order, ())
    parts = ['"use strict";', "const modules = {};"]
    parts += [_wrapped(name, modules[name]) for name in order]
    script = "\n".join(parts) + "\n"
    if re.search(r"</script|<!--", script, re.IGNORECASE):
        raise ValueError("a module holds <!-- or </script>, which would end the script in the page")
    return script


def _visit(name: str, modules: Mapping[str, str], order: list[str], path: tuple[str, ...]) -> None:
    if name in path:
        raise ValueError(f"modules import one another in a circle: {' → '.join((*path, name))}")
    if name in order:
        return
    if name not in modules:
        raise ValueError(f"{path[-1] if path else 'the page'} imports {name}, which does not exist")
    for found in _IMPORT.finditer(modules[name]):
        _visit(_resolved(found[2], name), modules, order, (*path, name))
    order.append(name)


def _wrapped(name: str, source: str) -> str:
    names = _EXPORT.findall(source)
    body = _EXPORT.sub("", _IMPORT.sub(lambda found: _looked_up(found, name), source))
    strange = _LEFT_OVER.search(body)
    if strange is not None:
        line = body[strange.start() :].strip().splitlines()[0]
        raise ValueError(f"{name} has a form of import or export that is not understood: {line}")
    returned = f"return {{ {', '.join(names)} }};\n" if names else ""
    return f'modules["{name}"] = (() => {{\n{body}{returned}}})();'


def _resolved(imported: str, importer: str) -> str:
    """The path of a module that another one imports."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(importer), imported))


def _looked_up(found: re.Match[str], importer: str) -> str:
    names = ", ".join(name.strip().replace(" as ", ": ") for name in found[1].split(",") if name.strip())
    return f'const {{ {names} }} = modules["{_resolved(found[2], importer)}"];\n'

"""Modules become one script without changing what they say."""

from __future__ import annotations

import re

import pytest

from reports.html import comparison, page
from reports.html.bundle import bundle, page_modules


def test_a_module_comes_after_what_it_imports() -> None:
    script = bundle(
        {
            "main.js": 'import { two as zwei } from "./two.js";\nzwei();\n',
            "two.js": 'import { one } from "./one.js";\nexport const two = () => one;\n',
            "one.js": "export const one = 1;\n",
            "unused.js": "export const three = 3;\n",
        },
        "main.js",
    )
    assert re.findall(r'^modules\["(\w+\.js)"\]', script, re.MULTILINE) == ["one.js", "two.js", "main.js"]
    assert 'const { two: zwei } = modules["two.js"];' in script
    assert "return { two };" in script
    assert "unused" not in script


def test_imports_are_relative_to_the_file() -> None:
    script = bundle(
        {
            "page/main.js": 'import { one } from "../lib/one.js";\nimport { two } from "./two.js";\n',
            "page/two.js": "export const two = 2;\n",
            "lib/one.js": "export const one = 1;\n",
        },
        "page/main.js",
    )
    assert 'const { one } = modules["lib/one.js"];' in script
    assert 'const { two } = modules["page/two.js"];' in script


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"main.js": 'import { a } from "./gone.js";\n'}, "imports gone.js"),
        (
            {
                "main.js": 'import { a } from "./a.js";\n',
                "a.js": 'import { main } from "./main.js";\n',
            },
            "in a circle: main.js → a.js → main.js",
        ),
        ({"main.js": "export default 1;\n"}, "not understood: export default 1;"),
        ({"main.js": 'import * as all from "./a.js";\n'}, "not understood: import"),
        ({}, "main.js, which does not exist"),
        ({"main.js": 'const a = "</script>";\n'}, "</script>"),
    ],
)
def test_what_is_not_understood_is_refused(modules: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        bundle(modules, "main.js")


def test_there_is_no_module_that_no_page_uses() -> None:
    modules = page_modules()
    scripts = bundle(modules, page.ENTRY) + bundle(modules, comparison.ENTRY)
    assert set(re.findall(r'^modules\["([\w/-]+\.js)"\]', scripts, re.MULTILINE)) == set(modules)

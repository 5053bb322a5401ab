"""What ``.vscode`` refers to is there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.papers import MANUAL, ROOT, command_named, section, unknown_options
from tracer.debugger import address

FOLDER = ROOT / ".vscode"


def read(name: str) -> dict[str, Any]:
    """Strict JSON: VS Code allows comments, other programs do not."""
    content = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


CONFIGURATIONS = {each["name"]: each for each in read("launch.json")["configurations"]}
(TASK,) = read("tasks.json")["tasks"]


def test_every_file_is_json() -> None:
    names = {file.name for file in FOLDER.iterdir()}
    assert names == {"launch.json", "tasks.json", "settings.json", "extensions.json"}
    assert all(read(name) for name in names)


@pytest.mark.parametrize("name", ["launch.json", "tasks.json", "settings.json"])
def test_variables_are_defined(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    defined = {f"input:{each['id']}" for each in read(name).get("inputs", [])}
    used = set(re.findall(r"\$\{([^}]+)\}", text))
    assert used <= defined | {"workspaceFolder", "command:python.interpreterPath"}
    assert {each for each in used if each.startswith("input:")} == defined


@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=lambda each: each["name"])
def test_configurations(configuration: dict[str, Any]) -> None:
    assert configuration["type"] == "debugpy"
    # The stops are in library code.
    assert configuration["justMyCode"] is False
    # The console with the cards opens in every session, and a step into the model passes what calls it.
    assert configuration["internalConsoleOptions"] == "openOnSessionStart"
    rules = configuration["rules"]
    assert not any(rule["include"] for rule in rules)
    assert all(importlib.util.find_spec(rule["module"]) for rule in rules if "module" in rule)
    assert {rule["path"] for rule in rules if "path" in rule} == {
        "**/hooks/**",
        "**/<string>",
        "**/configuration_utils.py",
    }
    assert (ROOT / "hooks").is_dir()
    if configuration["request"] == "attach":
        assert configuration["connect"] == {"host": "localhost", "port": address.DEFAULT_PORT}
    else:
        assert importlib.util.find_spec(configuration["module"]) is not None
        assert not unknown_options(configuration["args"])
    assert configuration.get("preLaunchTask", TASK["label"]) == TASK["label"]


def test_the_terminal_names_a_configuration_that_exists() -> None:
    assert address.ATTACH_CONFIGURATION in CONFIGURATIONS
    assert "preLaunchTask" not in CONFIGURATIONS[address.ATTACH_CONFIGURATION]


def test_the_manual_names_configurations_that_exist() -> None:
    named = set(re.findall(r'"([^"]+)"', section(MANUAL, "In a debugger").split("```")[2]))
    assert named == {"Attach to trace-generate (9501)", "Trace and attach"}
    assert named < set(CONFIGURATIONS)


def test_the_task_runs_what_exists_and_is_ready_when_it_listens() -> None:
    module, *arguments = TASK["args"][1:]
    assert TASK["args"][0] == "-m"
    assert importlib.util.find_spec(module) is not None
    assert not unknown_options(arguments)
    options = command_named("run").make_context("run", [*arguments]).params
    assert (options["attach"], options["port"]) == (True, address.DEFAULT_PORT)
    empty = [argument if argument != "${input:model}" else "" for argument in arguments]
    assert command_named("run").make_context("run", empty).params["name"] == ""
    background = TASK["problemMatcher"]["background"]
    lines = address.waiting_lines(address.LOOPBACK, address.DEFAULT_PORT)
    matched = [
        [bool(re.search(background[key], line)) for line in lines] for key in ("beginsPattern", "endsPattern")
    ]
    assert matched == [[True, False], [False, True]]
    error = re.match(TASK["problemMatcher"]["pattern"]["regexp"], "trace-generate: No debugger attached.")
    assert error is not None
    assert error[TASK["problemMatcher"]["pattern"]["message"]] == "No debugger attached."


def test_settings_and_extensions() -> None:
    settings, recommended = read("settings.json"), read("extensions.json")["recommendations"]
    assert all((ROOT / folder).is_dir() for folder in settings["python.testing.pytestArgs"])
    assert settings["[python]"]["editor.defaultFormatter"] in recommended
    # What a configuration of type `debugpy` needs.
    assert "ms-python.debugpy" in recommended
    interpreter = Path(settings["python.defaultInterpreterPath"].replace("${workspaceFolder}", str(ROOT)))
    # The folder that `uv sync` makes, as the rest of the repository takes for granted.
    assert f"{interpreter.relative_to(ROOT).parts[0]}/" in (ROOT / ".gitignore").read_text().split()

"""The command as a whole: what it loads, what its help says, how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from edgekit.cli import COMMANDS, cli

HEAVY = ("numpy", "paramiko", "onnx", "onnxruntime", "ai_edge_litert", "rich", "sqlalchemy", "msgspec", "PIL")


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    code = (
        f"import sys, io\nsys.stdout, out = io.StringIO(), sys.stdout\ntry:\n  {statement}\nexcept SystemExit: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}out.write(' '.join(sys.modules))"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def commands(group: click.Group, name: str = "edgekit") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        yield f"{name} {word}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")


ALL = dict(commands(cli))


def test_help_loads_nothing_heavy() -> None:
    statement = "import edgekit.__main__; sys.argv = ['edgekit', '--help']; edgekit.__main__.main()"
    assert "click" in modules_after(statement)
    assert not modules_after(statement) & set(HEAVY)


def test_the_runtime_loads_the_standard_library_only() -> None:
    assert modules_after("import edgekit_runtime") <= {
        *sys.stdlib_module_names,
        "edgekit_runtime",
        *modules_after("pass"),
    }


def test_transports_are_known_without_paramiko() -> None:
    assert "paramiko" not in modules_after("import edgekit.transports")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    assert COMMANDS[name][1] == ALL[f"edgekit {name}"].get_short_help_str(limit=200)


@pytest.mark.parametrize("name", [name for name, command in ALL.items() if not isinstance(command, click.Group)])
def test_every_command_has_an_example_and_json(name: str) -> None:
    command = ALL[name]
    told = "\n".join(line.strip() for line in (command.help or "").splitlines())
    assert re.search(rf"Examples?:\n{re.escape(name)}", told)
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    ("words", "status"), [(["frobnicate"], 2), (["build", "--frobnicate"], 2), (["push", "a", "b"], 2)]
)
def test_wrong_usage_is_one_line_and_exit_status_2(words: list[str], status: int) -> None:
    done = subprocess.run([sys.executable, "-m", "edgekit", *words], capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.startswith("edgekit: ")
    assert len(done.stderr.splitlines()) == 1

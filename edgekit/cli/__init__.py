"""The ``edgekit`` command: a lazy click group, and the one place where errors become a line and an exit status.

0 done, 1 failed, 2 usage or configuration, 3 worked and the answer is no, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

import click

from edgekit.errors import EdgekitError

COMMANDS = {
    "init": ("edgekit.cli.init:init", "Write a commented edgekit.toml and fleet.toml."),
    "build": ("edgekit.cli.build:build", "Convert, quantize, measure and sign a model for targets."),
    "bundle": ("edgekit.cli.bundle:bundle", "Look into bundles."),
    "device": ("edgekit.cli.device:device", "Add, probe, set up, remove and simulate devices."),
    "push": ("edgekit.cli.push:push", "Send a bundle to devices, prove it there, and switch to it."),
    "rollout": ("edgekit.cli.rollout:rollout", "Show, resume and abort pushes to several devices."),
    "round": ("edgekit.cli.round:round_", "Let devices learn from their own samples, and combine what they send."),
    "status": ("edgekit.cli.live:status", "Show what each device runs."),
    "rollback": ("edgekit.cli.live:rollback", "Go back to the release before."),
    "why": ("edgekit.cli.why:why", "Show how a device came to run what it runs."),
    "run": ("edgekit.cli.live:run", "Run one inference on a device."),
    "bench": ("edgekit.cli.bench:bench", "Measure the latency of what is live on a device."),
    "report": ("edgekit.cli.report:report", "Pull latencies from devices, store and show them."),
    "dashboard": ("edgekit.cli.dashboard:dashboard", "Show the fleet on a web page that stays up to date."),
    "collect": ("edgekit.cli.collect:collect", "Take what devices deliver, where SSH cannot reach in."),
    "policy": ("edgekit.cli.policy:policy", "Rules on what devices report."),
    "advise": ("edgekit.cli.advise:advise", "Say what measured times would change in the next build, and why."),
    "export": ("edgekit.cli.export:export", "Give Prometheus, Grafana and OpenTelemetry what they need."),
    "trust": ("edgekit.cli.trust:trust", "Say whose signatures devices take."),
    "target": ("edgekit.cli.target:target", "List and show target profiles."),
}

INTERRUPTION = ("interrupted", "interrupted", None, 130)


class LazyGroup(click.Group):
    """Knows its commands by name and loads one when it is called, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EDGEKIT"})
@click.version_option(package_name="edgekit-sdk", prog_name="edgekit")
def cli() -> None:
    """Trained models to devices that you own: build, prove, push over SSH, serve, measure.

    \b
    edgekit init
    edgekit build model.onnx --target pi
    edgekit device add kitchen ssh://pi@kitchen.local --target pi
    edgekit device setup kitchen
    edgekit push --to kitchen
    edgekit report
    """


class Interrupt:
    """Ctrl-C, remembered: what it breaks in the midst of an import says something else (ImportError)."""

    came = False

    def __call__(self, number: int, frame: object) -> NoReturn:
        self.came = True
        raise KeyboardInterrupt


def main() -> NoReturn:
    """Run a command line and end the process."""
    interrupt = Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    try:
        status = cli(standalone_mode=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (Exception, KeyboardInterrupt) as error:
        status = _tell(*INTERRUPTION) if interrupt.came else _failed(error)
    sys.exit(status if isinstance(status, int) else 0)


def _failed(error: BaseException) -> int:
    """What went wrong, in one line, and the exit status; with EDGEKIT_DEBUG set, a surprise with its traceback."""
    if isinstance(error, EdgekitError):
        return _tell(error.code, error.message, error.hint, error.exit_code)
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return _tell("error", error.format_message(), None, error.exit_code)
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return _tell(*INTERRUPTION)
    if os.environ.get("EDGEKIT_DEBUG"):
        raise error
    if isinstance(error, OSError):
        return _tell("system", f"{error.filename or type(error).__name__}: {error.strerror or error}", None, 1)
    told = f"{type(error).__name__}: {error}"
    return _tell("internal", told, "a mistake of edgekit: EDGEKIT_DEBUG=1 shows where", 1)


def _usage(error: click.UsageError) -> int:
    hint = f"try '{error.ctx.command_path} --help'" if error.ctx else None
    return _tell("usage", error.format_message(), hint, error.exit_code)


def _tell(code: str, message: str, hint: str | None, status: int) -> int:
    """One line on standard error; one JSON object on standard output where that was asked for."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"schema_version": 1, "error": {"code": code, "message": message, "hint": hint}}))
    line = " ".join(f"{message} — {hint}".split()) if hint else " ".join(message.split())
    click.echo(f"edgekit: {line}", err=True)
    return status

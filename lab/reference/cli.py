"""docs/cli.md, from the commands of overlay_net.cli.app."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from overlay_net.cli.app import app
from overlay_net.cli.arguments import COMMANDS
from overlay_net.domain.diagnosis.checks import CHECKS

FILE = Path(__file__).parent.parent.parent / "docs" / "cli.md"

LAST = ("version", "completion")

HEAD = """# Command line

The options are written by `python -m lab.reference` from `overlay_net/cli`; a test holds them to that.

    pip install "overlay-net[cli]"        # also as: kubectl overlay-net COMMAND
    kubectl exec --namespace overlay-net deploy/overlay-net-controller -- overlay-net status

The first way uses your kubeconfig and your permissions; `kubectl` finds the program as its plug-in. The second one
needs nothing on your machine, but has only the permissions of the controller. Results are written to standard output;
an error is one line on standard error. The exit code is 0; 1 if something is wrong or the cluster cannot be read; 2 for
invalid arguments; 130 after Ctrl-C. `source <(overlay-net completion bash)` completes commands and options.

`doctor` and `sysdump` need the ClusterRole `<release>-diagnose`, and in the namespace of the release the Role of the
same name, which allows commands in the pods of agents; neither is bound to anyone. What a user may not read is
`unknown` to `doctor`, and listed in the archive of `sysdump`. `plan` needs the right to create and update StaticRoutes,
although it changes none, because the API server checks it in a dry run, too.

`controller`, `agent` and `crds` are run by the chart, and `node-state` by `doctor` and `sysdump`. The `--help` of the
first two lists their settings ([operations.md](operations.md#settings)).
"""


def reference() -> str:
    """The whole text of the file."""
    names = [*(name for name in app.commands if name not in (*COMMANDS, *LAST)), *LAST]
    return HEAD + "".join(_section(name, app.commands[name]) for name in names)


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, parent=click.Context(app, info_name="overlay-net"))
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    checks = "".join(_checks()) if name == "doctor" else ""
    return f"\n## {name}\n\n    {usage}\n\n{text}\n" + "".join(_options(command, context)) + checks


def _checks() -> Iterator[str]:
    yield "\n| check, in the order of the chain | why it matters |\n|---|---|\n"
    for check in CHECKS:
        yield f"| `{check.name}`{' (with NODE)' if check.of_kernel else ''} | {_cell(check.why)} |\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [record for each in command.get_params(context) if (record := each.get_help_record(context)) is not None]
    own = [(option, text) for option, text in records if option.startswith("-") and "--help" not in option]
    if own:
        yield "\n| option | meaning |\n|---|---|\n"
        for option, text in own:
            yield f"| `{_cell(option)}` | {_cell(text)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

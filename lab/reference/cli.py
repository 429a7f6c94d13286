"""docs/cli.md, from the commands of overlay_net.cli.app."""

import argparse
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from lab.reference.markdown import code, table
from overlay_net.cli.app import app
from overlay_net.cli.arguments import COMMANDS, make_parser
from overlay_net.domain.diagnosis.checks import CHECKS

FILE = Path(__file__).parent.parent.parent / "docs" / "cli.md"

LAST = ("version", "completion")

HEAD = """# Command line

The options are written by `python -m lab.reference` from `overlay_net/cli`; a test holds them to that.

```sh
pip install "overlay-net[cli]"        # also as: kubectl overlay-net COMMAND
kubectl exec --namespace overlay-net deploy/overlay-net-controller -- overlay-net status
```

The first way uses your kubeconfig and your permissions; `kubectl` finds the program as its plug-in. The second one
needs nothing on your machine, but has only the permissions of the controller. Results are written to standard output;
an error is one line on standard error. The exit code is 0; 1 if something is wrong or the cluster cannot be read; 2 for
invalid arguments; 130 after Ctrl-C. `source <(overlay-net completion bash)` completes commands and options.

`doctor` and `sysdump` need the ClusterRole `<release>-diagnose`, and in the namespace of the release the Role of the
same name, which allows commands in the pods of agents; neither is bound to anyone. What a user may not read is
`unknown` to `doctor`, and listed in the archive of `sysdump`. `plan` needs the right to create and update StaticRoutes,
although it changes none, because the API server checks it in a dry run, too.
"""

JOBS = """
## Commands of the chart

The containers of the chart run these, and `doctor` and `sysdump` run `node-state` in the pods of agents. Of them,
people use `agent --teardown`, to remove everything from a node. `controller` and `agent` have
[settings](reference/settings.md).
"""


def reference() -> str:
    """The whole text of the file."""
    names = [*(name for name in app.commands if name not in (*COMMANDS, *LAST)), *LAST]
    jobs = next(each.choices for each in make_parser()._actions if each.dest == "mode")
    assert isinstance(jobs, dict)
    return (
        HEAD
        + "".join(_section(name, app.commands[name]) for name in names)
        + JOBS
        + "".join(_job(name, parser) for name, parser in jobs.items())
    )


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, parent=click.Context(app, info_name="overlay-net"))
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    checks = _checks() if name == "doctor" else ""
    return f"\n## {name}\n\n    {usage}\n\n{text}\n" + _options(_click_options(command, context)) + checks


def _checks() -> str:
    rows = ((code(check.name) + " (with NODE)" * check.of_kernel, check.why) for check in CHECKS)
    return "\n" + table(("check, in the order of the chain", "why it matters"), rows)


def _click_options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    records = [record for each in command.get_params(context) if (record := each.get_help_record(context)) is not None]
    return ((option, text) for option, text in records if option.startswith("-") and "--help" not in option)


def _job(name: str, parser: argparse.ArgumentParser) -> str:
    options = (
        (f"{each.option_strings[0]} {_argument(each)}".strip(), (each.help or "") + "; required" * each.required)
        for each in parser._actions
        if each.dest != "help"
    )
    return f"\n### {name}\n\n    overlay-net {name} [OPTIONS]\n\n{parser.description}\n{_options(options)}"


def _argument(option: argparse.Action) -> str:
    return f"{{{'|'.join(option.choices)}}}" if option.choices else str(option.metavar or "")


def _options(options: Iterable[tuple[str, str]]) -> str:
    rows = [(code(option), text) for option, text in options]
    return "\n" + table(("option", "meaning"), rows) if rows else ""

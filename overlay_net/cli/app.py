"""The commands for people, with the list of all commands. Errors are one line; exit codes are 1, or 2 for usage."""

import os
import platform
import sys
from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete, get_completion_class

from overlay_net import __version__
from overlay_net.cli.arguments import COMMANDS
from overlay_net.cli.doctor import doctor
from overlay_net.cli.plan import plan
from overlay_net.cli.routes import routes
from overlay_net.cli.status import status
from overlay_net.cli.sysdump import sysdump
from overlay_net.model.errors import ApiError, ConfigurationError, NotFound, OverlayNetError

PROGRAM = "overlay-net"
PLUGIN = "kubectl overlay-net"
COMPLETE_VARIABLE = "_OVERLAY_NET_COMPLETE"
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", message=f"{PROGRAM} %(version)s")
def app() -> None:
    """Overlay addresses and static routes for Kubernetes nodes, from IPAM to kernel, without NAT."""


@app.command()
def version() -> None:
    """Show the version of this program."""
    click.echo(f"{PROGRAM} {__version__} (Python {platform.python_version()})")


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: source <(overlay-net completion bash)."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(app, {}, PROGRAM, COMPLETE_VARIABLE).source())


for _command in (status, routes, plan, doctor, sysdump):
    app.add_command(_command)
for _name, _text in COMMANDS.items():
    # For help and completion; `overlay_net.__main__` runs them without this module.
    app.add_command(click.Command(_name, help=_text[0].upper() + _text[1:] + ".", add_help_option=False))


def run(arguments: Sequence[str], program: str) -> int:
    """Run a command for people; ``program`` is the name that it was called by. Returns its exit code."""
    name = next((each for each in arguments if not each.startswith("-")), "")
    prefix = f"{PROGRAM} {name}".rstrip()
    try:
        code = app.main(list(arguments), program, standalone_mode=False, complete_var=COMPLETE_VARIABLE)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return _fail(prefix, " ".join(error.format_message().split()) + hint, EXIT_USAGE)
    except ConfigurationError as error:
        return _fail(prefix, str(error), EXIT_USAGE)
    except NotFound as error:
        return _fail(prefix, str(error))
    except ApiError as error:
        return _fail(prefix, f"cannot read the cluster's state: {error}")
    except OverlayNetError as error:
        return _fail(prefix, str(error))
    except OSError as error:
        # What is buffered would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(prefix, f"cannot write the answer: {error.strerror or error}")
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def complete_for_kubectl() -> int:
    """Write what may follow the arguments; the last one is incomplete. kubectl runs it to complete the plug-in."""
    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(app, {}, PROGRAM, COMPLETE_VARIABLE).get_completions(words, incomplete):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    # ShellCompDirectiveNoFileComp of cobra
    click.echo(":4")
    return 0


def _fail(prefix: str, message: str, code: int = EXIT_FAILED) -> int:
    click.echo(f"{prefix}: {message}", err=True)
    return code

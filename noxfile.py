"""Everything that can be run here: `nox --list`. Each session installs what it needs, in the locked versions."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
SUITES = ("unit", "runtime", "contract", "component", "dataplane", "e2e")
LOCK = "--constraint=constraints.txt"


def install(session: nox.Session, group: str) -> None:
    session.install(LOCK, "--editable=.", *nox.project.dependency_groups(PYPROJECT, group))


def run_tests(session: nox.Session, *paths: str, coverage: bool = False) -> None:
    """Tests run in private namespaces: as root there, and with no way to the machine's own network."""
    install(session, "test")
    # Programs that are missing are built here, where the network still is.
    session.run("python", "-m", "lab.assets")
    measured = ["--cov", "--cov-report="] if coverage else []
    session.run("python", "-m", "lab.private", "python", "-m", "pytest", *measured, *(session.posargs or paths))


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, types, and the direction of imports."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, with a coverage report."""
    session.env["COVERAGE_FILE"] = str(Path(session.create_tmp()) / "coverage")
    run_tests(session, "tests", coverage=True)
    session.run("coverage", "combine", "--quiet", success_codes=[0, 1])
    session.run("coverage", "report")


def suite(name: str) -> None:
    @nox.session(name=name, venv_params=[])
    def run(session: nox.Session) -> None:
        run_tests(session, f"tests/{name}")

    run.__doc__ = f"The tests below tests/{name}."


for each in SUITES:
    suite(each)


@nox.session
def demo(session: nox.Session) -> None:
    """The product's story on this machine; `-- --keep` leaves the lab up."""
    install(session, "lab")
    # A Ctrl-C is answered by tearing the lab down, which takes a moment.
    session.run("python", "-m", "lab.demo", *session.posargs, interrupt_timeout=60, terminate_timeout=60)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed, as ratios to the limit of this machine; `-- routes`, `-- nodes`, `-- phpipam` choose."""
    install(session, "lab")
    session.run("python", "-m", "lab.bench", *session.posargs)

"""Everything that can be run here: `nox --list`. Each session installs what it needs, in the locked versions."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
SUITES = ("unit", "runtime", "contract", "component", "dataplane")
LOCK = "--constraint=constraints.txt"


def install(session: nox.Session, group: str) -> None:
    session.install(LOCK, "--editable=.", *nox.project.dependency_groups(PYPROJECT, group))


# Tests run in private namespaces: as root there, and with no way to the machine's own network.
PYTEST = ("python", "-m", "lab.net.private", "python", "-m", "pytest")


def prepare_tests(session: nox.Session) -> None:
    install(session, "test")
    # Programs that are missing are built here, where the network still is.
    session.run("python", "-m", "lab.build.assets")
    session.run("python", "-m", "lab.build.assets", "kubeconform")
    # Some tests need `nft` or Prometheus; where they are not to be had, those tests say so and are skipped.
    for package in ("nftables", "prometheus"):
        session.run("python", "-m", "lab.build.debian", package, success_codes=[0, 1])


def prepare_kubelets(session: nox.Session) -> None:
    # Where no kubelet can run this says why, and so do the tests that are skipped for it.
    session.run("python", "-m", "lab.cluster.prepare")


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
    """Every test, with a coverage report; the end-to-end ones beside all others, each half in namespaces of its own."""
    prepare_tests(session)
    prepare_kubelets(session)
    folder = Path(session.create_tmp())
    # Of about the same length.
    halves = (["tests/e2e"], [*(f"tests/{each}" for each in SUITES), "tests/kubelet"])
    chosen = [session.posargs] if session.posargs else halves
    commands: list[str] = []
    for number, paths in enumerate(chosen):
        measured = ("env", f"COVERAGE_FILE={folder / f'coverage-{number}'}", *PYTEST, "--cov", "--cov-report=")
        commands += [":::", *measured, f"--basetemp={folder / f'pytest-{number}'}", *paths]
    session.run("python", "-m", "lab.side_by_side", *commands)
    session.env["COVERAGE_FILE"] = str(folder / "coverage")
    session.run("coverage", "combine", "--quiet", *map(str, folder.glob("coverage-*")), success_codes=[0, 1])
    session.run("coverage", "report")


def suite(name: str) -> None:
    @nox.session(name=name, venv_params=[])
    def run(session: nox.Session) -> None:
        prepare_tests(session)
        session.run(*PYTEST, *(session.posargs or [f"tests/{name}"]))

    run.__doc__ = f"The tests below tests/{name}."


for each in SUITES:
    suite(each)


@nox.session
def e2e(session: nox.Session) -> None:
    """The installed product: its chart and image on real kubelets, and its processes in more trouble than that."""
    prepare_tests(session)
    prepare_kubelets(session)
    session.run(*PYTEST, *(session.posargs or ["tests/kubelet", "tests/e2e"]))


@nox.session
def image(session: nox.Session) -> None:
    """The image, as an archive; arguments after `--` go to the build, such as `--platform=linux/arm64`."""
    install(session, "lab")
    session.run("python", "-m", "lab.build.image", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """A cluster of real kubelets that stays up until Ctrl-C; `-- --install` installs the chart."""
    install(session, "lab")
    session.run("python", "-m", "lab.cluster", *session.posargs, interrupt_timeout=60, terminate_timeout=60)


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

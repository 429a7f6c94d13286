"""The commands of this repository: `nox --list`. Each session installs what it needs, in the locked versions."""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
LOCK = "--constraint=constraints.txt"
# In private namespaces tests run as root and cannot reach the machine's own network.
PRIVATE_PYTEST = ("python", "-m", "lab.net.private", "python", "-m", "pytest")
SUITES = ("unit", "runtime", "contract", "component", "dataplane", "kubelet")
UNIT = ["tests/unit", "tests/runtime", "tests/contract", "--ignore=tests/contract/test_kube.py"]
# Two halves of about the same length.
HALVES = {"e2e": ["tests/e2e"], "suites": [f"tests/{suite}" for suite in SUITES]}


def install(session: nox.Session, group: str) -> None:
    """Install the product and a dependency group, unless this session has them in these versions."""
    copies = Path(session.virtualenv.location) / "installed"
    copies.mkdir(exist_ok=True)
    files = ["constraints.txt", "pyproject.toml"]
    unchanged, _, _ = filecmp.cmpfiles(".", copies, files, shallow=False)
    if unchanged != files:
        session.install(LOCK, "--editable=.", *nox.project.dependency_groups(PYPROJECT, group))
        session.run_install("cp", *files, str(copies), external=True)


def prepare_tests(session: nox.Session) -> None:
    """Build and fetch the programs that tests need: the private namespaces have no network."""
    if session.virtualenv.venv_backend == "none":
        # `tests` has prepared the environment that this session runs in.
        return
    install(session, "test")
    session.run("python", "-m", "lab.build.assets")
    session.run("python", "-m", "lab.build.assets", "actionlint", "kubeconform")
    # Without `nft` or Prometheus the tests that need them are skipped, as are those of kubelets without a cluster.
    for package in ("nftables", "prometheus"):
        session.run("python", "-m", "lab.build.debian", package, success_codes=[0, 1])
    session.run("python", "-m", "lab.cluster.prepare")


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, complexity, types, the direction of imports, and the words of the product."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("complexipy", "--failed", "overlay_net", "lab", "tests")
    session.run("mypy")
    session.run("lint-imports")
    session.run("python", "-m", "lab.words")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of the documentation into build/site, without a warning, and check its links."""
    install(session, "docs")
    session.run("python", "-m", "lab.site", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """The tests that need no server and no privileges, with few Hypothesis examples: seconds, for each edit."""
    install(session, "test")
    paths = session.posargs or UNIT
    session.run("python", "-m", "pytest", "--hypothesis-profile=fast", *paths)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests with a coverage report: `e2e` and `suites` side by side."""
    prepare_tests(session)
    if session.posargs:
        session.run(*PRIVATE_PYTEST, "--cov", *session.posargs)
        return
    folder = Path(session.create_tmp()).absolute()
    path = os.pathsep.join([*(session.bin_paths or []), os.environ["PATH"]])

    def start(half: str, output: IO[str] | None = None) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "nox", "--no-venv", "-s", half, "--", "--cov", "--cov-report="]
        environment = {**os.environ, "PATH": path, "COVERAGE_FILE": str(folder / f"coverage-{half}")}
        options = [f"--basetemp={folder / half}", *HALVES[half]]
        return subprocess.Popen([*command, *options], env=environment, stdout=output, stderr=output, text=True)

    with TemporaryFile("w+", errors="replace") as output, start("e2e") as first, start("suites", output) as second:
        codes = [first.wait(), second.wait()]
        output.seek(0)
        sys.stdout.write(output.read())
    if any(codes):
        session.error(f"e2e ended with {codes[0]}, suites with {codes[1]}")
    session.env["COVERAGE_FILE"] = str(folder / "coverage")
    session.run("coverage", "combine", "--quiet", *map(str, folder.glob("coverage-*")), success_codes=[0, 1])
    session.run("coverage", "report")


@nox.session
def e2e(session: nox.Session) -> None:
    """The product's processes on a lab network, through faults of all kinds."""
    prepare_tests(session)
    session.run(*PRIVATE_PYTEST, *(session.posargs or HALVES["e2e"]))


@nox.session
def suites(session: nox.Session) -> None:
    """All other tests; `-- tests/component` chooses."""
    prepare_tests(session)
    session.run(*PRIVATE_PYTEST, *(session.posargs or HALVES["suites"]))


@nox.session
def contract(session: nox.Session) -> None:
    """Replay the recordings of phpIPAM with access to the network, so also on the server that PHPIPAM_URL names."""
    install(session, "test")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/contract/test_phpipam.py"]))


@nox.session
def packages(session: nox.Session) -> None:
    """Build sdist, wheel and chart in dist/, and check them; docs/releasing.md has the arguments of a release."""
    install(session, "release")
    if not session.posargs:
        shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "lab.release", *(session.posargs or ["build", "dist"]))


@nox.session
def image(session: nox.Session) -> None:
    """Build the image as an archive; arguments after `--` go to the build, such as `--platform=linux/arm64`."""
    install(session, "lab")
    session.run("python", "-m", "lab.build.image", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run a cluster of real kubelets until Ctrl-C; `-- --install` installs the chart."""
    install(session, "lab")
    session.run("python", "-m", "lab.cluster", *session.posargs, interrupt_timeout=60, terminate_timeout=60)


@nox.session
def demo(session: nox.Session) -> None:
    """Show the product's main job on this machine; `-- --keep` keeps the lab running."""
    install(session, "lab")
    # After Ctrl-C it takes a moment to remove the lab.
    session.run("python", "-m", "lab.demo", *session.posargs, interrupt_timeout=60, terminate_timeout=60)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed, relative to the limit of this machine; `-- routes` or another name runs one benchmark."""
    install(session, "lab")
    session.run("python", "-m", "lab.bench", *session.posargs)

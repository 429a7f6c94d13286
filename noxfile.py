"""The commands of this repository: `nox --list`. Each session installs what it needs, in the locked versions."""

import filecmp
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, STDOUT

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
LOCK = "--constraint=constraints.txt"
# In private namespaces tests run as root and cannot reach the machine's own network.
PRIVATE_PYTEST = ("python", "-m", "lab.net.private", "python", "-m", "pytest")
UNIT = ["tests/unit", "tests/runtime", "tests/contract", "--ignore=tests/contract/test_kube.py"]
SCENARIO = "tests/e2e/test_scenario.py"
# The longest first: the processors are busy until the end.
SUITES = {
    "component": ["tests/component"],
    "e2e": ["tests/e2e", f"--ignore={SCENARIO}"],
    "dataplane": ["tests/dataplane"],
    "unit": ["tests/unit", "tests/runtime", "tests/contract"],
    "scenario": [SCENARIO],
    "kubelet": ["tests/kubelet"],
}
# It starts hundreds of processes, and coverage takes a quarter of their CPU. The scenario shows which lines they run.
UNMEASURED = "e2e"
# For the programs of the tests' clusters, which have small heaps: a third of the CPU that an API server takes to start.
RARE_COLLECTION = {"GOGC": "400"}


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
    install(session, "test")
    session.run("python", "-m", "lab.cluster.prepare")
    session.run("python", "-m", "lab.build.assets", "actionlint", "check-dashboard", "check-gitops", "kubeconform")
    # Without `nft`, `iptables` and Prometheus some tests are skipped, as are those of kubelets without a cluster.
    for package in ("nftables", "iptables", "prometheus"):
        session.run("python", "-m", "lab.build.debian", package, success_codes=[0, 1])


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
    """All tests with a coverage report, as many suites at a time as there are processors; `-- tests/e2e` chooses."""
    prepare_tests(session)
    if session.posargs:
        session.run(*PRIVATE_PYTEST, *session.posargs, env=RARE_COLLECTION)
        return
    folder = Path(session.create_tmp()).absolute()
    path = os.pathsep.join([*(session.bin_paths or []), os.environ["PATH"]])

    def run(suite: str) -> int:
        coverage = [] if suite == UNMEASURED else ["--cov", "--cov-report="]
        command = [*PRIVATE_PYTEST, *coverage, f"--basetemp={folder / suite}", *SUITES[suite]]
        environment = {**os.environ, **RARE_COLLECTION, "PATH": path}
        environment["COVERAGE_FILE"] = str(folder / f"coverage-{suite}")
        pipes = {"stdout": PIPE, "stderr": STDOUT, "text": True, "errors": "replace"}
        with subprocess.Popen(command, env=environment, **pipes) as process:
            for line in process.stdout:
                sys.stdout.write(f"{suite:<9} | {line}")
                sys.stdout.flush()
        return process.returncode

    with ThreadPoolExecutor(max(2, os.cpu_count() or 0)) as pool:
        codes = dict(zip(SUITES, pool.map(run, SUITES), strict=True))
    if any(codes.values()):
        session.error(", ".join(f"{suite} ended with {code}" for suite, code in codes.items() if code))
    session.env["COVERAGE_FILE"] = str(folder / "coverage")
    session.run("coverage", "combine", "--quiet", *map(str, folder.glob("coverage-*")), success_codes=[0, 1])
    session.run("coverage", "report")


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

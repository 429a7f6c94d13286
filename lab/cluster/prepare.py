"""`python -m lab.cluster.prepare`: build and fetch what a cluster of kubelets needs, while there is a network."""

from concurrent.futures import ThreadPoolExecutor

from lab.build.assets import find_assets
from lab.build.debian import PackageUnavailable
from lab.build.go_build import Progress, print_progress
from lab.build.image import find_image
from lab.cluster.programs import build_programs, fetch_packages
from lab.cluster.requirements import missing_requirement


def prepare(progress: Progress = lambda text: None) -> str:
    """Why no cluster can run on this machine, in one line; an empty text if one can. Raises BuildFailed.

    The programs of an API server are built in both cases.
    """
    if missing := missing_requirement():
        find_assets(progress)
        return missing
    with ThreadPoolExecutor() as threads:
        # The image needs the network, and one core at a time: there is room for it beside the compilers.
        fetched = threads.submit(_fetch, progress)
        build_programs(progress)
        try:
            fetched.result()
        except PackageUnavailable as error:
            return " ".join(str(error).split())
    return ""


def _fetch(progress: Progress) -> None:
    fetch_packages(progress)
    find_image(progress)


if __name__ == "__main__":
    print(prepare(print_progress) or "a cluster of kubelets can run on this machine")

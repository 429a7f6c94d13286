"""`python -m lab.cluster.prepare`: build and fetch what a cluster of kubelets needs, while there is a network."""

from lab.build.debian import PackageUnavailable
from lab.build.go_build import Progress, print_progress
from lab.build.image import find_image
from lab.cluster.programs import find_cluster_programs
from lab.cluster.requirements import missing_requirement


def prepare(progress: Progress = lambda text: None) -> str:
    """Why no cluster can run on this machine, in one line; an empty text if one can. Raises BuildFailed."""
    if missing := missing_requirement():
        return missing
    try:
        find_cluster_programs(progress)
        find_image(progress)
    except PackageUnavailable as error:
        return " ".join(str(error).split())
    return ""


if __name__ == "__main__":
    print(prepare(print_progress) or "a cluster of kubelets can run on this machine")

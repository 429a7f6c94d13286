"""`python -m lab.cluster.prepare`: what a cluster of kubelets needs, built and fetched while there is a network."""

from lab.build.debian import PackageUnavailable
from lab.build.go_build import Progress, say
from lab.build.image import find_image
from lab.cluster.programs import find_cluster_programs
from lab.cluster.requirements import missing


def prepare(progress: Progress = lambda text: None) -> str:
    """What keeps a cluster from running here, in one line; an empty text once all is there. Raises BuildFailed."""
    if lacking := missing():
        return lacking
    try:
        find_cluster_programs(progress)
        find_image(progress)
    except PackageUnavailable as error:
        return " ".join(str(error).split())
    return ""


if __name__ == "__main__":
    print(prepare(say) or "a cluster of kubelets can run here")

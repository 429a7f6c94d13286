"""python -m lab.site [FOLDER]: builds the site strictly and checks its links; exit code 1 if anything is wrong."""

import sys
from pathlib import Path

from lab.build.go_build import BuildFailed
from lab.site.build import ROOT, build
from lab.site.links import problems


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    try:
        build(folder)
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    found = problems(folder)
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    if not found:
        print(f"{folder / 'index.html'}: {len(list(folder.rglob('*.html')))} pages, all links resolve")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m lab.release check|notes|build`: what the release workflow needs from the sources.

check [TAG] exits with 1 unless all files, and the tag, name the same version; notes FILE writes the section of the
changelog; build FOLDER builds sdist, wheel and chart. PROJECT_URL, DOCS_URL and IMAGE_REPOSITORY name where they are
published.
"""

import argparse
import os
import sys
from pathlib import Path

from lab.build.go_build import BuildFailed
from lab.release.changelog import find_section
from lab.release.links import Links
from lab.release.packages import Publisher, build
from lab.release.versions import find_problems, read_version

ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="exit with 1 unless all files name the same version")
    check.add_argument("tag", nargs="?", metavar="TAG", help="tag of the release, such as v1.2.3")
    notes = commands.add_parser("notes", help="write the section of the changelog to a file")
    notes.add_argument("file", type=Path, metavar="FILE")
    packages = commands.add_parser("build", help="build sdist, wheel and chart")
    packages.add_argument("folder", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    version = read_version(ROOT)
    match arguments.command:
        case "check":
            problems = [*find_problems(ROOT, arguments.tag)]
            print("\n".join(problems) or version)
            return 1 if problems else 0
        case "notes":
            text = find_section(version, (ROOT / "CHANGELOG.md").read_text()).text
            links = Links.read(version)
            arguments.file.write_text(links.make_absolute(text, "CHANGELOG.md") if links else text)
        case _:
            publisher = Publisher(Links.read(version), os.environ.get("IMAGE_REPOSITORY", ""))
            try:
                built = build(arguments.folder, publisher)
            except BuildFailed as error:
                print(f"lab: {error}", file=sys.stderr)
                return 1
            for path in built:
                print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

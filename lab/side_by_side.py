"""python -m lab.side_by_side COMMAND … ::: COMMAND …: runs commands at the same time, and shows what each says in turn.

The first one's output is shown as it comes, that of the others when it has ended. It ends with the first error.
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from tempfile import TemporaryFile
from typing import IO

SEPARATOR = ":::"


def main(words: Sequence[str]) -> int:
    parts = groupby(words, lambda word: word == SEPARATOR)
    commands = [list(part) for is_separator, part in parts if not is_separator]
    if not commands:
        print(__doc__, file=sys.stderr)
        return 2
    with ExitStack() as files:
        outputs: list[IO[str] | None] = [None, *(files.enter_context(TemporaryFile("w+")) for _ in commands[1:])]
        running = [
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT if output else None)
            for command, output in zip(commands, outputs, strict=True)
        ]
        codes = []
        for process, output in zip(running, outputs, strict=True):
            codes.append(process.wait())
            if output is not None:
                output.seek(0)
                sys.stdout.write(output.read())
                sys.stdout.flush()
    return next((code if code > 0 else 1 for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

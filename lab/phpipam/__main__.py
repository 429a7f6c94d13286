"""The simulator as a process: ``python -m lab.phpipam --bind 127.0.0.1:8088 --seed-file FILE``."""

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path

from lab.phpipam import control, seed
from lab.phpipam.server import serve
from lab.phpipam.state import PhpIpam


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.phpipam",
        description='A phpIPAM server in memory. Prints one line "serving on URL" when ready; SIGTERM ends it.',
        epilog=f"{seed.HELP}\n{control.HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bind", default="127.0.0.1:8088", metavar="HOST:PORT", help="port 0 takes a free one")
    parser.add_argument("--seed-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve https; needs --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    return options


async def run(ipam: PhpIpam, options: argparse.Namespace) -> None:
    host, _, port = options.bind.rpartition(":")
    tls = None
    if options.tls_cert is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve(ipam, host, int(port), tls, control.Control(ipam).endpoints) as url:
        sys.stdout.write(f"serving on {url}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    given = parsed()
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(run(seed.seeded(given.seed_file), given))

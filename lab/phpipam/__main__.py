"""Runs the simulator: ``python -m lab.phpipam --bind 127.0.0.1:8088 --seed-file FILE``."""

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path

from lab.phpipam import control, seed
from lab.phpipam.frontend import serve
from lab.phpipam.server import Server


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.phpipam",
        description='A phpIPAM simulator in memory. It prints "serving on URL" when it is ready, and stops on SIGTERM.',
        epilog=f"{seed.HELP}\n{control.HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bind", default="127.0.0.1:8088", metavar="HOST:PORT", help="port 0 selects a free port")
    parser.add_argument("--seed-file", type=Path, required=True, metavar="FILE", help="initial content, see below")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve https; requires --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="private key of the certificate")
    options = parser.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key must be used together")
    return options


async def run(server: Server, options: argparse.Namespace) -> None:
    host, _, port = options.bind.rpartition(":")
    tls = None
    if options.tls_cert is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(server, host, int(port), tls, control.Control(server).endpoints) as url:
        sys.stdout.write(f"serving on {url}\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    options = parse_arguments()
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(run(seed.load_server(options.seed_file), options))

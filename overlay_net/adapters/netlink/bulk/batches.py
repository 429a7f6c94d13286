"""Packs many requests into few datagrams."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from overlay_net.adapters.netlink.bulk.codec import HEADER, NLM_F_ACK, NLM_F_REQUEST

BATCH_BYTES = 64 * 1024
"""Well below the default send buffer; the kernel refuses larger datagrams (EMSGSIZE)."""

Request: TypeAlias = tuple[int, int, bytes]
"""Type, flags besides NLM_F_REQUEST, and body of one message."""


def split_batches(requests: Iterable[Request], limit: int) -> Iterator[list[Request]]:
    """Split the requests into batches that fit into one datagram each."""
    remaining = iter(requests)
    while batch := list(islice(remaining, limit)):
        yield from _split(batch)


def _split(batch: list[Request]) -> Iterator[list[Request]]:
    if len(batch) == 1 or sum(HEADER.size + len(body) for _, _, body in batch) <= BATCH_BYTES:
        yield batch
    else:
        half = len(batch) // 2
        yield from _split(batch[:half])
        yield from _split(batch[half:])


def encode_batch(requests: Sequence[Request], first: int) -> bytes:
    """Encode a batch. Only the last message requests an ACK: the kernel answers in order and always sends refusals."""
    parts: list[bytes] = []
    last = first + len(requests) - 1
    for sequence, (kind, flags, body) in enumerate(requests, first):
        flags |= NLM_F_REQUEST if sequence != last else NLM_F_REQUEST | NLM_F_ACK
        parts += (HEADER.pack(16 + len(body), kind, flags, sequence, 0), body)
    return b"".join(parts)

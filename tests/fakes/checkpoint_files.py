"""The files of a checkpoint in memory, on a disk that can fail or stop answering."""

import errno
import os
import threading
from pathlib import Path

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    CheckpointContent,
    Moment,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
)
from overlay_net.model.overlay import NodeOverlay


class MemoryFiles:
    """``error`` is the errno of every write; ``calls`` are the names of the calls that have begun."""

    directory = Path("/state")

    def __init__(self) -> None:
        self.content = CheckpointContent(None, None)
        self.error = 0
        self.calls: list[str] = []
        self._answers = threading.Event()
        self._answers.set()

    def put(self, overlay: NodeOverlay, confirmed: Moment) -> None:
        """What an earlier run has left."""
        state = encode_checkpoint(overlay)
        self.content = CheckpointContent(state, encode_confirmation(checkpoint_digest(state), confirmed))

    def hang(self) -> None:
        """No call returns until ``answer``."""
        self._answers.clear()

    def answer(self) -> None:
        self._answers.set()

    @property
    def checkpoint(self) -> Checkpoint | None:
        found = decode_checkpoint(self.content, "n1")
        return found if isinstance(found, Checkpoint) else None

    def read(self) -> CheckpointContent:
        self._begin("read")
        return self.content

    def write(self, state: bytes, confirmed: Moment) -> None:
        self._change("write")
        self.content = CheckpointContent(state, encode_confirmation(checkpoint_digest(state), confirmed))

    def confirm(self, digest: str, confirmed: Moment) -> None:
        self._change("confirm")
        self.content = CheckpointContent(self.content.state, encode_confirmation(digest, confirmed))

    def delete(self) -> None:
        self._change("delete")
        self.content = CheckpointContent(None, None)

    def _change(self, call: str) -> None:
        self._begin(call)
        if self.error and (call != "delete" or self.content.state is not None):
            raise OSError(self.error, os.strerror(self.error))

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self._answers.wait()


READ_ONLY = errno.EROFS

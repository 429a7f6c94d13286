"""A pace at which every status is written at once."""

from overlay_net.controller.write_pace import WritePace


class Unpaced(WritePace):
    def record(self, seconds: float) -> None:
        pass

    def delay(self) -> float:
        return 0.0

"""A source whose elements are stored in big-endian order, read in little-endian order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sizeforensics.source import Source


class Swapped(Source):
    """The bytes of ``whole`` with every group of ``width`` bytes reversed; a tail shorter than that
    stays as it is."""

    big_endian = True

    def __init__(self, whole: Source, width: int) -> None:
        self.path = whole.path
        self.size = whole.size
        self._whole = whole
        self._width = width

    def origin(self) -> int:
        return self._whole.origin()

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        end = start + len(buffer)
        self.check(start, end)
        width = self._width
        low = start - start % width
        high = min(end + -end % width, self.size)
        data = self._whole.array(low, high)
        groups = data[: len(data) - len(data) % width].reshape(-1, width)
        groups[:] = groups[:, ::-1].copy()
        buffer[:] = data[start - low : end - low]

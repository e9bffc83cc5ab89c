"""Notes of rows that are to be counted: copies of some hundred rows, by tensor.

To count rows takes some calls of numpy for each quantity, however few they are, so they are noted
run by run and counted together.
"""

from __future__ import annotations

from random import randrange
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.insight.serving.sampling import Share
    from service.signature import Tensor

    Rows = NDArray[Any]

# The bytes and the values of the rows of one run that are counted: about a millisecond of work.
_RUN_BYTES = 2**21
_RUN_VALUES = 2**16
# What a noted part of a run takes besides its values.
_OBJECT_BYTES = 48
NONE = range(0)


class Notes:
    """The rows of some tensors of one version that wait to be counted."""

    def __init__(
        self, tensors: Sequence[Tensor], quantities: int, share: Share, most_bytes: int
    ) -> None:
        """Note rows of these tensors.

        Args:
            tensors: the tensors.
            quantities: the number of values that are counted of each row.
            share: says which runs are taken.
            most_bytes: the bytes of the rows that may wait.
        """
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._share = share
        self._most_bytes = most_bytes
        self._quantities = max(1, quantities)
        # Bytes of rows in C order, as in `HeadCounts`: an array that is kept would cost the next
        # run the memory that is in the processor's cache.
        self._plain: dict[str, list[bytes]] = {}
        # Rows whose bytes do not tell what they are, and those of runs that are counted at once.
        self._arrays: dict[str, list[Rows]] = {name: [] for name in self._tensors}
        each = 1
        for tensor in tensors:
            if tensor.size is not None and tensor.dtype != "string":
                self._plain[tensor.name] = []
                each += tensor.size * np.dtype(tensor.dtype).itemsize + _OBJECT_BYTES
        # The rows of a run that is noted without a closer look; 0 if all need one.
        rows = min(most_bytes // each, _RUN_VALUES // self._quantities)
        self._few = rows if len(self._plain) == len(tensors) else 0
        self._each = each
        self._size = 0
        self.is_full = False
        """True if the rows are to be counted now."""
        self.answered = 0
        """Rows that were answered."""
        self.taken = 0
        """Those of them that were taken."""

    def take(self, arrays: Mapping[str, Rows], rows: int) -> range:
        """Note the rows of a run, or some of very many, if it is its turn; return their numbers."""
        self.answered += rows
        if not self._share.takes():
            return NONE
        size = rows * self._each
        if rows > self._few or self._size + size > self._most_bytes:
            return self._take_large(arrays, rows)
        for name, noted in self._plain.items():
            array = arrays.get(name)
            if array is not None:
                noted.append(array.tobytes())
        self.taken += rows
        self._size += size
        # One more run like this would be too much.
        self.is_full = self._size + size > self._most_bytes
        return range(rows)

    def _take_large(self, arrays: Mapping[str, Rows], rows: int) -> range:
        """Note the rows of a run that may be many, or of any size."""
        step = max(1, -(-rows * self._quantities // _RUN_VALUES))
        taken = range(randrange(step), rows, step)  # noqa: S311  no secret
        # Texts differ in length, so those of these rows alone are looked at.
        wanted = {
            name: arrays[name][taken.start :: step] for name in self._tensors if name in arrays
        }
        size = sum(map(_bytes, wanted.values()))
        if size > _RUN_BYTES * len(taken):
            return NONE
        fewer = max(1, -(-size // _RUN_BYTES))
        first = randrange(fewer)  # noqa: S311  no secret
        taken = taken[first::fewer]
        self._size += size
        self.is_full = self._size + size > self._most_bytes
        for name, array in wanted.items():
            part = array[first::fewer]
            # What is counted at once need not be copied.
            self._arrays[name].append(part if self.is_full else part.copy())
        self.taken += len(taken)
        return taken

    def drain(self) -> list[dict[str, Rows]]:
        """Return all noted rows, [rows, …] by tensor, and forget them.

        Rows of one tensor that differ in shape are in several of these.
        """
        joined: list[dict[str, Rows]] = []
        for name, tensor in self._tensors.items():
            shapes: dict[tuple[int, ...], list[Rows]] = {}
            if content := self._plain.get(name):
                rows = np.frombuffer(b"".join(content), tensor.dtype).reshape(-1, *tensor.fixed)
                shapes[tensor.fixed] = [rows]
                content.clear()
            for array in self._arrays[name]:
                shapes.setdefault(array.shape[1:], []).append(array)
            self._arrays[name].clear()
            for place, same in enumerate(shapes.values()):
                if place == len(joined):
                    joined.append({})
                joined[place][name] = same[0] if len(same) == 1 else np.concatenate(same)
        self._size = self.answered = self.taken = 0
        self.is_full = False
        return joined


def _bytes(array: Rows) -> int:
    texts = sum(map(len, array.ravel())) if array.dtype.hasobject else 0
    return int(array.nbytes) + texts + _OBJECT_BYTES

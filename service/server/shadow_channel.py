"""The channel from all workers to the process of the shadow: messages of bounded bytes.

    a worker ─ send ─▶ a socket pair ─ receive ─▶ the process of the shadow
                  └─ a file in memory for a long message ─┘

A message is sent whole or not at all, behind its length, and never blocks its sender.  The bytes
that wait are counted in shared memory: each number has one writer, so no lock is needed.
"""

from __future__ import annotations

import mmap
import os
import socket

# The bytes of all messages that wait.
MOST_WAITING = 2**22
# A longer message is passed as a file in memory; this many fit into a socket in any case.
_LONG = 2**14
_WORD = 8


class Channel:
    """Both ends of the channel, made before the processes are forked."""

    def __init__(self, workers: int) -> None:
        """Make a channel for `workers` workers and one receiver."""
        self.sending, self.receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sending.setblocking(False)
        # The bytes that the receiver has taken, and those that each worker has given.
        self._numbers = memoryview(mmap.mmap(-1, _WORD * (workers + 1))).cast("q")

    @property
    def waiting(self) -> int:
        """The bytes that wait."""
        taken, *given = self._numbers
        return sum(given) - taken

    def send(self, slot: int, message: bytes) -> bool:
        """Send a message, and return whether there was room for it.

        Args:
            slot: the number of the worker.
            message: the message.
        """
        if self.waiting + len(message) > MOST_WAITING:
            return False
        size = len(message).to_bytes(_WORD, "little")
        try:
            if len(message) <= _LONG:
                self.sending.send(size + message)
            else:
                self._send_file(size, message)
        except OSError:
            # No room, or no descriptor or memory.
            return False
        self._numbers[slot + 1] += len(message)
        return True

    def receive(self) -> bytes:
        """Wait for the next message and return it; empty once nobody can send one any more."""
        message, descriptors, _, _ = socket.recv_fds(self.receiving, _WORD + _LONG, 1)
        if not message:
            return message
        # Before anything else: what is never counted would be room that is lost, also for the next
        # process, if memory runs out or this process is killed meanwhile.
        self._numbers[0] += int.from_bytes(message[:_WORD], "little")
        if descriptors:
            with os.fdopen(descriptors[0], "rb") as file:
                return file.read()
        return message[_WORD:]

    def close(self) -> None:
        """Close both ends."""
        self.sending.close()
        self.receiving.close()

    def _send_file(self, size: bytes, message: bytes) -> None:
        descriptor = os.memfd_create("shadow", os.MFD_CLOEXEC)
        try:
            left = memoryview(message)
            while left:
                left = left[os.write(descriptor, left) :]
            os.lseek(descriptor, 0, os.SEEK_SET)
            socket.send_fds(self.sending, [size], [descriptor])
        finally:
            os.close(descriptor)

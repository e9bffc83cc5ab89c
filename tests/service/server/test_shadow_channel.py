"""Tests of the channel to the process of the shadow: bounded, and never waited for."""

from __future__ import annotations

import contextlib

import pytest

from service.server import shadow_channel
from service.server.shadow_channel import MOST_WAITING, Channel


@pytest.mark.parametrize("size", [1, 2**14, 2**14 + 1, 2**20])
def test_messages_are_received_in_order(size):
    """Short ones and long ones, of all senders."""
    channel = Channel(2)
    with contextlib.closing(channel):
        messages = [bytes([65 + number]) * size for number in range(3)]
        for number, message in enumerate(messages):
            assert channel.send(number % 2, message)

        assert channel.waiting == 3 * size
        assert [channel.receive() for _ in messages] == messages
        assert channel.waiting == 0


@pytest.mark.parametrize("size", [1000, 2**14, 2**16, 2**20])
def test_what_waits_is_bounded(size):
    """A message without room is not sent, and once there is room again, the next one is."""
    channel = Channel(1)
    with contextlib.closing(channel):
        sent = 0
        while channel.send(0, b"x" * size):
            sent += 1

        assert 1 <= sent <= MOST_WAITING // size
        assert channel.waiting == sent * size
        assert channel.receive() == b"x" * size
        assert channel.send(0, b"y" * size)


def test_a_message_that_could_not_be_read_takes_no_room(monkeypatch):
    """As where memory runs out, or the process is killed: the next one has all the room."""
    channel = Channel(1)

    def fail(*_: object) -> None:
        raise MemoryError

    with contextlib.closing(channel):
        for _ in range(2 * MOST_WAITING // 2**20):
            assert channel.send(0, b"x" * 2**20)
            with monkeypatch.context() as patch:
                patch.setattr(shadow_channel.os, "fdopen", fail)
                with pytest.raises(MemoryError):
                    channel.receive()
        assert channel.waiting == 0


def test_a_message_that_cannot_be_sent_is_not_counted(monkeypatch):
    """A process without a free descriptor sends short messages alone."""
    channel = Channel(1)

    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(shadow_channel.os, "memfd_create", fail)
    with contextlib.closing(channel):
        assert not channel.send(0, b"x" * 2**16)
        assert channel.waiting == 0
        assert channel.send(0, b"x")

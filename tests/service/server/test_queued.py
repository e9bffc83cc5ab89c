"""The executor of `triceps serve`: long work beside the event loop."""

import asyncio
import gc
import weakref

import pytest

from service.errors import BadRequest
from service.inference.direct import Direct
from service.server.queued import Queued
from service.wire.body import wrong


class Large:
    """What a large body becomes while it is read."""


def _refuse_large(seen: list[weakref.ref]) -> None:
    large = Large()
    seen.append(weakref.ref(large))
    try:
        int("many")
    except ValueError as error:
        raise wrong("instances", "fewer", "more") from error


@pytest.fixture(name="no_collection")
def _no_collection():
    """Turn the collector of reference cycles off."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_an_error_does_not_hold_what_a_large_body_became():
    """The memory of a refused body is free before its error is answered, without a collection."""
    seen: list[weakref.ref] = []

    async def ask() -> Exception:
        loop = asyncio.get_running_loop()
        executor, done = Queued(loop), loop.create_future()
        executor.apart(2**24, lambda: _refuse_large(seen), done.set_result)
        result = await done
        executor.shut_down()
        return result

    error = asyncio.run(ask())

    assert isinstance(error, BadRequest)
    assert str(error) == "instances: expected fewer, received more"
    assert seen[0]() is None


@pytest.mark.usefixtures("no_collection")
def test_an_error_holds_nothing_under_another_server_either():
    """There, a body is read in the thread that answers it."""
    seen: list[weakref.ref] = []
    held: list[object] = []

    def then(error: Exception) -> None:
        held.append(seen[0]())
        assert str(error) == "instances: expected fewer, received more"

    Direct().apart(2**24, lambda: _refuse_large(seen), then)

    assert held == [None]
    assert seen[0]() is None

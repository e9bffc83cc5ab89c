"""Work of several clients for the same threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.server.turns import Turns
from tests.harness import small
from tests.harness.http2 import Peer
from tests.harness.served import Served
from tests.harness.waiting import until


@pytest.fixture(name="threads")
def _threads():
    """Yield a thread."""
    threads = ThreadPoolExecutor(1)
    yield threads
    threads.shutdown()


def test_clients_take_turns(threads):
    """Whoever has much work waits longer for it, and nobody else does."""
    turns, hold, done = Turns(threads), threading.Event(), []
    turns.add("first", lambda: hold.wait(20))
    for client, number in (("many", 4), ("few", 2), ("one", 1)):
        for i in range(number):
            turns.add(client, lambda each=f"{client} {i}": done.append(each))
    hold.set()
    until(lambda: len(done) == 7)
    assert done == ["many 0", "few 0", "one 0", "many 1", "few 1", "many 2", "many 3"]


def test_work_that_no_thread_can_do_is_refused_and_not_done(threads, monkeypatch):
    """Its request is answered with an error, and once."""
    turns, done = Turns(threads), []

    def fail(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threads, "submit", fail)
        with pytest.raises(RuntimeError):
            turns.add("a", lambda: done.append(1))
    turns.add("a", lambda: done.append(2))
    until(lambda: done)
    assert done == [2]


def test_a_client_that_asks_for_many_pages_holds_up_no_other(tmp_path, monkeypatch):
    """The page of another one comes after one page of it."""
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path, threads=1)
    asked, hold, app = [], threading.Event(), served.app.wsgi_app

    def noting(environ, start):
        asked.append(environ["PATH_INFO"])
        return app(environ, start)

    monkeypatch.setattr(served.app, "wsgi_app", noting)
    served.front.turns.add("busy", lambda: hold.wait(20))
    with Peer(served.port) as hostile, Peer(served.port) as other:
        streams = [hostile.begin("/openapi.json", method="GET", ends=True) for _ in range(20)]
        assert hostile.ask("/livez").status == 200
        stream = other.begin("/models", method="GET", ends=True)
        assert other.ask("/livez").status == 200
        hold.set()
        assert other.answer(stream).status == 200
        assert hostile.answer(streams[-1]).status == 200
    served.stop()
    pages = [path for path in asked if path != "/livez"]
    assert pages.index("/models") == 1

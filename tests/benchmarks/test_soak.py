"""The soak test, run for some seconds: everything at once, and every answer is right."""

from collections import Counter

from benchmarks import ledger, report, soak


def test_nothing_is_lost_or_wrong_in_twenty_seconds_of_everything(tmp_path):
    """Versions, aliases, bad bodies, closed connections and a killed worker harm no request."""
    done = soak.soak(20, tmp_path)

    # Caches that fill within a minute are not full after five seconds.
    assert done.broken(memory_goal=2.0) == []
    assert done.ledger.kills
    assert sum(done.ledger.answered.values()) > 200
    assert {dialect for dialect, status in done.ledger.answered if status == "200"} >= {
        *("native", "oip", "tfserving", "mlflow", "other")
    }
    assert done.changes["versions published"] >= 2


def test_the_count_of_an_answer_may_be_lost_with_the_worker_that_sent_it():
    """A client may note an answer before or after the kill of the worker that sent it."""
    book = ledger.Ledger()

    book.note("oip", 200, 3)
    book.kill()
    book.note("oip", 200, 4)

    assert book.untold == {("oip", "200"): 2}
    assert book.untold_rows == 7
    nothing = soak.Look(0.0, 0.0, {}, Counter(), 0.0)
    assert soak._compare_counts(nothing, book) == []


def test_one_request_waits_until_the_service_is_ready(monkeypatch):
    """A slow start costs one counted request: one that is abandoned would be answered too."""
    asked = []
    monkeypatch.setattr(
        soak.servers, "ask", lambda url, timeout: asked.append((url, timeout)) or b""
    )

    soak._check(soak.servers.Running(1, 8080, 0.0))

    assert asked == [("http://127.0.0.1:8080/readyz", soak.servers.READY_SECONDS)]


def test_the_page_of_a_soak_has_its_tables(tmp_path, monkeypatch):
    """The page has the promises and the results."""
    before = soak.Look(61.0, 30.0, {7: soak.Process("worker", 50.0, 10)}, soak.Counter(), 0.0)
    after = soak.Look(600.0, 33.0, {7: soak.Process("worker", 60.0, 11)}, soak.Counter(), 0.0)
    ledger = soak.Ledger(wrong=["risk: expected 1, received 2"])
    changes, minutes = soak.Counter({"aliases moved": 3}), [101.0, 102.0]
    done = soak.Soaked(600.0, before, after, ledger, changes, minutes, [], [])
    monkeypatch.setattr(soak.results, "commit", lambda: "abc")

    soak.write(done, tmp_path / "docs" / "soak.md")

    text = (tmp_path / "docs" / "soak.md").read_text()
    assert "at commit abc" in text
    assert "| resident memory at the end, of all processes | ≤ 1.05 x | 1.200 x |" in text
    assert all(f"## {table.title}" in text for table in soak.tables(done))
    assert done.broken() == [
        "wrong: risk: expected 1, received 2",
        "memory: 1.200 x, expected at most 1.05 x",
        "memory of worker 7: 1.200 x",
        "open files of worker: 10 after the first minute, then 11",
    ]
    assert report.markdown(("a", "b")) == "| a | b |"

"""The same request sent to the front of `triceps serve` and to the Flask app."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.harness.served import JSON, Served

if TYPE_CHECKING:
    from collections.abc import Mapping


class Asked:
    """An answer: the status, and the JSON or the bytes of the body."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.content = content

    @property
    def said(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.content)


class BothWays:
    """A front in a thread, and its Flask app."""

    def __init__(self, models: Any, **settings: Any) -> None:
        self.served = Served(models, **settings)
        self._client = self.served.app.test_client()

    def post(self, path: str, body: Any, headers: Mapping[str, str] = JSON) -> Asked:
        """Request a prediction, and check that both answers are equal."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        front = Asked(*self.served.ask("POST", path, content, headers))
        answer = self._client.post(path, data=content, headers=headers)
        assert (front.status, front.content) == (answer.status_code, answer.data)
        return front

    def get(self, path: str) -> Asked:
        """Request a page."""
        return Asked(*self.served.ask("GET", path))

    def stop(self) -> None:
        """Stop the front."""
        self.served.stop()

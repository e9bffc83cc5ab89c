"""Apps and requests for Flask's test client."""

import contextlib
import json
from http.client import HTTPConnection

from werkzeug.wrappers import Request

from service import create_app
from service.settings import Settings
from tests.harness import small

LIMIT = 64 * 1024
ROW = {"insurance": [47, "yes", 20], "fruit": [1, 2], "digit": [0, 1, 2, 3]}
BODY = {"instances": [ROW]}
SIZE = {"instances": [{"fruit": [1, 2]}], "heads": ["size"]}
NAMES = sorted([*small.every(), "risky", "fruity"])


def app_of(models, **settings):
    """Return the app for a repository, which accepts no large body."""
    return create_app(Settings(models=models, max_body=LIMIT, **settings))


def over_http(port):
    """Return a WSGI app that forwards requests to a server on this machine."""

    def proxy(environ, start_response):
        asked = Request(environ)
        chunked = "chunked" in asked.headers.get("Transfer-Encoding", "")
        body = iter([asked.stream.read()]) if chunked else asked.get_data() or None
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            target = environ["REQUEST_URI"]
            headers = dict(asked.headers)
            connection.request(asked.method, target, body, headers, encode_chunked=chunked)
            answer = connection.getresponse()
            content = answer.read()
        start_response(f"{answer.status} {answer.reason}", answer.getheaders())
        return [content]

    return proxy


def post_json(client, said, path="/predict", **kwargs):
    """Send a body with the content type JSON."""
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    return client.post(path, data=content, content_type="application/json", **kwargs)


def error_of(response):
    """Return the status and the message of an error."""
    assert response.content_type == "application/json"
    return response.status_code, response.get_json()["error"]

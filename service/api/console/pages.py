"""The console's page, its style sheet and its script, as files that hold no data.

The script asks the routes of the service, with the token that its user gives it, so these files
need none.  Their addresses are relative, since a proxy may serve them below any path.
"""

from __future__ import annotations

from hashlib import sha256
from http.client import NOT_MODIFIED
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from service.api.replies import respond
from service.wire.dialect import Reply

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers

    from service.settings import Settings

PAGE = "/console/"
_TYPES = {
    "console.html": "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
}
RULES = (PAGE, f"{PAGE}console.css", f"{PAGE}console.js")
_HEADERS = (
    # A browser asks each time whether its copy is still right, so a page and a script of two
    # versions of the service never meet.
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
            "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
        ),
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class _Unchanged(Response):
    """A 304 with the Content-Length of the answer that it stands for, as RFC 9110 has it.

    Werkzeug leaves it out, and `triceps serve` would send that of an empty body.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(status=NOT_MODIFIED, headers=response.headers)
        self._length = len(response.get_data())

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        headers = super().get_wsgi_headers(environ)
        headers["Content-Length"] = str(self._length)
        return headers


def pages() -> Blueprint:
    """Return the pages `/console/`, `/console/console.css` and `/console/console.js`."""
    blueprint = Blueprint("console", __name__)
    folder = Path(__file__).parent
    files = {name: (folder / name).read_bytes() for name in _TYPES}

    def answer(name: str) -> Response:
        response = respond(Reply(files[name], _TYPES[name], _HEADERS))
        # Weak, since the same file may be compressed or not.
        response.set_etag(sha256(files[name]).hexdigest()[:32], weak=True)
        response.make_conditional(request)
        return _Unchanged(response) if response.status_code == NOT_MODIFIED else response

    @blueprint.get(PAGE)
    def page() -> Response:
        # The addresses in the page are relative to a path that ends with a slash.
        return answer("console.html") if request.path.endswith("/") else redirect()

    @blueprint.get(f"{PAGE}console.css")
    def style() -> Response:
        return answer("console.css")

    @blueprint.get(f"{PAGE}console.js")
    def script() -> Response:
        return answer("console.js")

    return blueprint


def is_wanted(settings: Settings) -> bool:
    """Return whether the request is for the home page, by a browser that shows the console then."""
    accepted = request.accept_mimetypes
    return (
        settings.console == "on"
        and request.path == "/"
        and request.method in ("GET", "HEAD")
        and accepted.quality("text/html") > accepted.quality("application/json")
    )


def redirect() -> Response:
    """Return a redirect to the console, relative to the home page."""
    headers = [("Location", "console/"), ("Cache-Control", "no-cache"), ("Vary", "Accept")]
    return Response(status=302, headers=headers)

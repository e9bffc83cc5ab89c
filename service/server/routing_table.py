"""The routing table of one event loop: the route of each path, however the path is spelled.

    target ─┬─ as it stands ─────────────────────────────────────▶ Route
            └─ its path, decoded ─▶ the app's rule ─▶ the path of that rule ─▶ Route

Since the URL map of the Flask app finds the rule, the table finds a route for every spelling that
the app would treat as a prediction.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from service.api import routes
from service.inference.lane import Lane
from service.server import wsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug.routing import Map

    from service.prediction import Route
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.wire.dialect import Dialect

# The number of other spellings whose rules are cached, and the length in bytes from which on a path
# is not cached: a client could send any number of long ones.
MOST_PATHS = 256
MOST_PATH = 512


class RoutingTable:
    """The routes of one repository, and the lanes that their requests wait in."""

    def __init__(
        self,
        rules: Mapping[str, Dialect],
        url_map: Map,
        make: Callable[[Servable, Dialect, Lane], Route],
    ) -> None:
        """Create a table without routes.

        Args:
            rules: the URL rules of predictions, each with its dialect.
            url_map: the URL map of the Flask app, which has those rules.
            make: makes the route to a version in a dialect.
        """
        self.rules = rules
        self.routes: Mapping[bytes, Route] = {}
        # Routes to versions that stay loaded only as long as clients request them.
        self.kept_routes: frozenset[Route] = frozenset()
        self.lanes: set[Lane] = set()
        # The lanes that the watchdog watches, with their models' names; among them are lanes of
        # models that are gone and still have requests to answer.
        self.watched: dict[Lane, str] = {}
        self._kept: Mapping[bytes, Route] = {}
        self._url_map = url_map
        self._make = make
        self._known_rule = lru_cache(MOST_PATHS)(self.rule_of)

    def use(self, repository: Repository) -> None:
        """Replace the routes by those of another repository.

        A model that is in both keeps its lane, and so the requests that wait for it.
        """
        former = (*self.routes.values(), *self._kept.values())
        lanes = {route.servable.model: route.lane for route in former}
        made: dict[tuple[int, Dialect], Route] = {}

        def find(*, kept: bool) -> dict[bytes, Route]:
            by_target = {}
            targets = routes.targets(self.rules, repository, kept=kept)
            for target, (dialect, servable) in targets.items():
                key = id(servable), dialect
                if key not in made:
                    lane = lanes.setdefault(servable.model, Lane(servable.model))
                    made[key] = self._make(servable, dialect, lane)
                by_target[target] = made[key]
            return by_target

        self.routes, self._kept = find(kept=False), find(kept=True)
        self.kept_routes = frozenset(self._kept.values())
        self.lanes = {route.lane for route in made.values()}
        for route in made.values():
            self.watched[route.lane], _ = repository.key(route.servable.name, "")

    def find(self, target: bytes) -> Route | None:
        """Return the route of a target, however it is spelled, or `None` if there is none."""
        route = self.routes.get(target)
        if route is not None:
            return route
        path, _ = wsgi.split(target)
        rule = self._known_rule(path) if len(path) < MOST_PATH else self.rule_of(path)
        if rule is None:
            return None
        canonical = routes.path_of(*rule)
        return self.routes.get(canonical) or self._kept.get(canonical)

    def rule_of(self, path: bytes) -> tuple[str, Mapping[str, str]] | None:
        """Return the URL rule of a prediction's path and the names in the path, as Flask finds it.

        Returns:
            `None` if the path is not one of a prediction.
        """
        try:
            rule, names = self._url_map.bind("localhost").match(
                path.decode("utf-8", "replace"), "POST", return_rule=True
            )
        except HTTPException:
            return None
        return (rule.rule, names) if rule.rule in self.rules else None

    def forget(self) -> None:
        """Stop watching lanes of models that are gone and whose requests are all answered."""
        for lane in self.watched.keys() - self.lanes:
            if not lane.has_work:
                del self.watched[lane]

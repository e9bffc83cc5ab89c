"""The routing table of one event loop: by path, however it is spelled, the route that answers it.

    target ─┬─ as it stands ─────────────────────────────────────▶ Route
            └─ its path, decoded ─▶ the app's rule ─▶ the path of that rule ─▶ Route

No spelling leads past the table that the app would take for a prediction, since the app's own map
finds the rule.
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

# Paths that are spelled as no route is, and whose rules are kept; longer ones are kept by nobody,
# since a client could send any number of them.
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
        """Have no routes yet.

        Args:
            rules: by rule of a path that predicts, the dialect that is spoken there.
            url_map: of the app, which has those rules.
            make: makes the route to a version in a dialect.
        """
        self.rules = rules
        self.routes: Mapping[bytes, Route] = {}
        # Those of versions that stay only as long as they are asked for.
        self.on_demand: frozenset[Route] = frozenset()
        self.lanes: set[Lane] = set()
        # Lanes whose requests are watched, by their models' names; also of models that are gone
        # and still have requests to answer.
        self.watched: dict[Lane, str] = {}
        self._kept: Mapping[bytes, Route] = {}
        self._url_map = url_map
        self._make = make
        self._known_rule = lru_cache(MOST_PATHS)(self.rule_of)

    def use(self, repository: Repository) -> None:
        """Have the routes of another repository; what waits for a model that stays waits on."""
        former = (*self.routes.values(), *self._kept.values())
        lanes = {route.servable.model: route.lane for route in former}
        made: dict[tuple[int, Dialect], Route] = {}

        def find(*, kept: bool) -> dict[bytes, Route]:
            found = {}
            targets = routes.targets(self.rules, repository, kept=kept)
            for target, (dialect, servable) in targets.items():
                key = id(servable), dialect
                if key not in made:
                    lane = lanes.setdefault(servable.model, Lane(servable.model))
                    made[key] = self._make(servable, dialect, lane)
                found[target] = made[key]
            return found

        self.routes, self._kept = find(kept=False), find(kept=True)
        self.on_demand = frozenset(self._kept.values())
        self.lanes = {route.lane for route in made.values()}
        for route in made.values():
            self.watched[route.lane], _ = repository.key(route.servable.name, "")

    def find(self, target: bytes) -> Route | None:
        """The route of a target, however it is spelled; `None` where there is none."""
        route = self.routes.get(target)
        if route is not None:
            return route
        path, _ = wsgi.split(target)
        found = self._known_rule(path) if len(path) < MOST_PATH else self.rule_of(path)
        if found is None:
            return None
        canonical = routes.path_of(*found)
        return self.routes.get(canonical) or self._kept.get(canonical)

    def rule_of(self, path: bytes) -> tuple[str, Mapping[str, str]] | None:
        """The rule of a path that predicts, by the app's own way to find one, and its names."""
        try:
            rule, names = self._url_map.bind("localhost").match(
                path.decode("utf-8", "replace"), "POST", return_rule=True
            )
        except HTTPException:
            return None
        return (rule.rule, names) if rule.rule in self.rules else None

    def forget(self) -> None:
        """Watch no lane of a model that is gone, once its requests are answered."""
        for lane in self.watched.keys() - self.lanes:
            if not lane.has_work:
                del self.watched[lane]

"""The routing table of one event loop: the route of each path, however the path is spelled.

    target ─┬─ as it stands ─────────────────────────────────────────────▶ Route
            ├─ its path, decoded ─▶ the app's rule ─▶ the path of that rule ─▶ Route, new if need be
            └─ the address of a gRPC call ───────────────────────────────▶ Route, new if need be

Since the URL map of the Flask app finds the rule, the table finds a route for every spelling that
the app would treat as a prediction.  A route is made for its first request: a thousand models have
more paths than will ever be requested.  An address is no path, so no request of HTTP has it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from service.api import routes
from service.api.grpc import methods
from service.http.grpc.call import Address
from service.inference.lane import Lane
from service.repository.repository import NOTHING
from service.server import wsgi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.routing import Map

    from service.inference.model import Model
    from service.prediction import Pipeline, Route
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.wire.dialect import Dialect

    # A URL rule of the app, or a method of gRPC, and the values of its variables.
    Rule = tuple[str, Mapping[str, str]]

# The number of other spellings whose rules are cached, and the length in bytes from which on a path
# is not cached: a client could send any number of long ones.
MOST_PATHS = 256
MOST_PATH = 512
# The ends of the rules of pages about a version that need not be loaded for them.
_WITHOUT_LOAD = ("/compare", "/report", "/stats")
# The rules of health pages that need the default model.
HEALTH_OF_THE_DEFAULT = ("/ping", "/health")


class RoutingTable:
    """The routes of one repository, and the lanes that their requests wait in."""

    def __init__(
        self,
        rules: Mapping[str, Dialect],
        url_map: Map,
        pipeline: Pipeline,
    ) -> None:
        """Create a table without routes.

        Args:
            rules: the URL rules of predictions, each with its dialect.
            url_map: the URL map of the Flask app, which has those rules.
            pipeline: makes the route to a version in a dialect, and shares requests.
        """
        self.rules = rules
        # The routes that requests have needed, by path or address.
        self.routes: dict[bytes | Address, Route] = {}
        # Routes to versions that stay loaded only as long as clients request them.
        self.kept_routes: set[Route] = set()
        # The lanes that the watchdog watches, with their models' names; among them are lanes of
        # models that are gone and still have requests to answer.
        self.watched: dict[Lane, str] = {}
        self.lanes: set[Lane] = set()
        self._lanes: dict[Model, Lane] = {}
        self._rules: dict[bytes | Address, Rule] = {}
        self._dialects = {**rules, **methods.PREDICTIONS}
        self._made: dict[tuple[int, Dialect], Route] = {}
        # Routes that share their requests with a canary, by that to the stable version.
        self._shared: dict[Route, Route] = {}
        # Routes to versions that are let go of, by the same; `forget` drops them.
        self._lent: dict[tuple[int, Dialect], Route] = {}
        self._repository = NOTHING
        self._url_map = url_map
        self._pipeline = pipeline
        self._known_rule = lru_cache(MOST_PATHS)(self.rule_of)

    def use(self, repository: Repository) -> None:
        """Replace the routes by those of another repository.

        A model that is in both keeps its lane, and so the requests that wait for it.
        """
        self._repository = repository
        there = {servable.model for loaded in repository.served.values() for servable in loaded}
        self._lanes = {model: lane for model, lane in self._lanes.items() if model in there}
        self.lanes = set(self._lanes.values())
        for lane in self.lanes:
            lane.note_runs = None  # unless it is that of a canary still
        former, self._made, self.kept_routes = self._made, {}, set()
        self._shared = {}
        known, self.routes = self._rules, {}
        self._rules = {}
        for target, rule in known.items():
            self._add(target, rule, former)

    def find(self, target: bytes | Address) -> Route | None:
        """Return the route of a target, however it is spelled; `None` if none is loaded."""
        route = self.routes.get(target)
        if route is not None:
            return route
        if isinstance(target, Address):
            return self._add(target, _rule_of(target), {})
        path, _ = wsgi.split(target)
        rule = self._known_rule(path) if len(path) < MOST_PATH else self.rule_of(path)
        if rule is None:
            return None
        canonical = routes.path_of(*rule)
        return self.routes.get(canonical) or self._add(canonical, rule, {})

    def rule_of(self, path: bytes) -> Rule | None:
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

    def rule_that_loads(self, target: bytes | Address, method: bytes) -> Rule | None:
        """Return the rule of a target and its names, if a version may be loaded for it.

        Returns:
            `None` if the target is neither that of a prediction nor that of a page about one
            version, or if that page needs no loaded version.
        """
        if isinstance(target, Address):
            return _rule_of(target)
        path, _ = wsgi.split(target)
        if method not in (b"GET", b"HEAD"):
            return self.rule_of(path) if method == b"POST" else None
        try:
            rule, names = self._url_map.bind("localhost").match(
                path.decode("utf-8", "replace"), method.decode(), return_rule=True
            )
        except HTTPException:
            return None
        if rule.rule in HEALTH_OF_THE_DEFAULT:
            return rule.rule, names
        loads = "name" in names and not rule.rule.endswith(_WITHOUT_LOAD)
        return (rule.rule, names) if loads else None

    def lend(self, target: bytes | Address, servable: Servable) -> Route | None:
        """Return a route to a version that was loaded for a request and has been let go of since.

        Args:
            target: the target of the request.
            servable: the version; its requests wait in a lane of their own.
        """
        if isinstance(target, Address):
            rule: Rule | None = _rule_of(target)
        else:
            rule = self.rule_of(wsgi.split(target)[0])
        if rule is None:
            return None
        dialect = self._dialects[rule[0]]
        key = id(servable), dialect
        route = self._lent.get(key)
        if route is None:
            model = servable.model
            lane = next((lane for lane in self.watched if lane.model is model), None) or Lane(model)
            route = self._lent[key] = self._pipeline.route(servable, dialect, lane)
            self.watched[lane] = self._repository.key(servable.name, servable.version)[0]
        return route

    def forget(self) -> None:
        """Stop watching lanes of models that are gone and whose requests are all answered."""
        self._lent.clear()
        for lane in self.watched.keys() - self.lanes:
            if not lane.has_work:
                del self.watched[lane]

    def _add(
        self, target: bytes | Address, rule: Rule, former: Mapping[tuple[int, Dialect], Route]
    ) -> Route | None:
        """Add the route of a path or address.

        Returns:
            `None` if the version that answers there is not loaded.
        """
        name, version, alias = routes.which(rule[1])
        servable = self._repository.loaded(name, version, alias)
        if servable is None:
            return None
        dialect = self._dialects[rule[0]]
        route = self._route(servable, dialect, former)
        if version is None and alias is None:
            route = self._share(route, dialect, former)
        self.routes[target], self._rules[target] = route, rule
        return route

    def _share(
        self, stable: Route, dialect: Dialect, former: Mapping[tuple[int, Dialect], Route]
    ) -> Route:
        """Return the route that shares requests with the canary of a model, if there is one."""
        shared = self._shared.get(stable)
        if shared is None:
            shared = self._pipeline.shared(
                self._repository, stable, lambda canary: self._route(canary, dialect, former)
            )
            self._shared[stable] = shared
        return shared

    def _route(
        self, servable: Servable, dialect: Dialect, former: Mapping[tuple[int, Dialect], Route]
    ) -> Route:
        """Return the route to a version, one of `former` if that is still right."""
        # The route holds the version, so that no other one gets its number.
        key = id(servable), dialect
        route = self._made.get(key) or former.get(key)
        if route is None:
            lane = self._lanes.setdefault(servable.model, Lane(servable.model))
            self.lanes.add(lane)
            route = self._pipeline.route(servable, dialect, lane)
        if key not in self._made:
            self._made[key] = route
            at = self._repository.key(servable.name, servable.version)
            self.watched[route.lane] = at[0]
            if at in self._repository.catalog.kept:
                self.kept_routes.add(route)
        return route


def _rule_of(address: Address) -> Rule:
    """Return the rule of an address: its method, and what it names."""
    names = {"name": address.name, "version": address.version, "alias": address.alias}
    return address.method, {key: name for key, name in names.items() if name is not None}

"""Tests of a filter in plain Python, without a gateway: `connection = testing.open(MyFilter)`.

The gateway's side is played by a `Host`, which writes down what the filter did.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Type

from componentize_py_types import Err
from wit_world.exports import handler as contract
from wit_world.imports import clock, http_client, key_value, logging, messaging, metrics, types

from .component import Filter, Session, export
from .verdict import Message, message, plain


@dataclass
class Host:
    """What a filter did to the gateway, and what it finds there. `stores` that are not here are denied."""

    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)
    now_ms: int = 1_767_225_600_000
    answer: Optional[Callable[[http_client.Request], http_client.Response]] = None
    lines: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    published: list[tuple[str, Message, Optional[str]]] = field(default_factory=list)
    sent: list[tuple[str, Message]] = field(default_factory=list)
    closed: list[tuple[str, int, str]] = field(default_factory=list)
    subscriptions: set[tuple[str, str]] = field(default_factory=set)
    requests: list[http_client.Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._entries: dict[tuple[str, str], key_value.Entry] = {}
        self._until: dict[tuple[str, str], Optional[int]] = {}
        self._version = 0
        for store, entries in self.stores.items():
            for key, value in entries.items():
                self._put(store, key, value, None)

    def _find(self, store: str, key: str) -> Optional[key_value.Entry]:
        if store not in self.stores:
            raise Err(key_value.Error_Denied())
        until = self._until.get((store, key))
        return self._entries.get((store, key)) if until is None or self.now_ms < until else None

    def _put(self, store: str, key: str, value: bytes, ttl_ms: Optional[int]) -> int:
        self._find(store, key)
        self._version += 1
        self._entries[store, key] = key_value.Entry(value, self._version)
        self._until[store, key] = None if ttl_ms is None else self.now_ms + ttl_ms
        return self._version

    def _compare_and_set(
        self, store: str, key: str, expected: Optional[int], value: bytes, ttl_ms: Optional[int]
    ) -> bool:
        found = self._find(store, key)
        if (found.version if found else None) != expected:
            return False
        self._put(store, key, value, ttl_ms)
        return True

    def _delete(self, store: str, key: str) -> None:
        self._find(store, key)
        self._entries.pop((store, key), None)

    def _increment(self, store: str, key: str, by: int, ttl_ms: Optional[int]) -> int:
        found, until = self._find(store, key), self._until.get((store, key))
        total = (int(found.value) if found else 0) + by
        self._put(store, key, str(total).encode(), ttl_ms)
        if found:
            self._until[store, key] = until
        return total

    def _send(self, request: http_client.Request) -> http_client.Response:
        self.requests.append(request)
        if self.answer is None:
            raise Err(http_client.Error_Denied())
        return self.answer(request)

    def install(self) -> None:
        """Makes this the host that the imports of the contract ask."""

        def count(name: str, _labels: Any, by: int) -> None:
            self.counters[name] = self.counters.get(name, 0) + by

        functions: dict[Any, dict[str, Callable[..., Any]]] = {
            logging: {
                "enabled": lambda level: True,
                "log": lambda level, text, fields: self.lines.append((level.name.lower(), text, dict(fields))),
                "reason": self.reasons.append,
            },
            clock: {"now_ms": lambda: self.now_ms, "monotonic_ns": lambda: self.now_ms * 1_000_000},
            metrics: {"add": count, "observe": lambda *_: None},
            messaging: {
                "send": lambda to, it: self.sent.append((to, plain(it))),
                "close": lambda to, info: self.closed.append((to, info.code, info.reason)),
                "publish": lambda topic, it, exclude: self.published.append((topic, plain(it), exclude)),
                "subscribe": lambda connection, topic: self.subscriptions.add((connection, topic)),
                "unsubscribe": lambda connection, topic: self.subscriptions.discard((connection, topic)),
            },
            key_value: {
                "get": self._find, "set": self._put, "compare_and_set": self._compare_and_set, "delete": self._delete,
                "increment": self._increment,
            },
            http_client: {"send": self._send},
        }
        for module, answers in functions.items():
            for name, answer in answers.items():
                setattr(module, name, answer)


class Connection:
    """One open connection of a filter under test. What a filter's function raises is raised as `Err` with its text."""

    def __init__(self, handler: Any, request: types.Handshake, host: Host) -> None:
        self.host = host
        self._handler = handler
        self._request = request
        self.admission: contract.Admission = handler.open(request)
        self._session: Any = self.admission.session

    @property
    def filter(self) -> Filter:
        """The filter's own value."""
        session: Session = self._session
        return session._filter

    def to_upstream(self, value: Message) -> types.Verdict:
        """What becomes of a message of the client."""
        return self._session.on_message(types.Direction.TO_UPSTREAM, message(value))

    def to_client(self, value: Message) -> types.Verdict:
        """What becomes of a message to the client."""
        return self._session.on_message(types.Direction.TO_CLIENT, message(value))

    def delivery(self, topic: str, value: Message) -> types.Verdict:
        """What becomes of a message of a topic."""
        return self._session.on_delivery(topic, message(value))

    def tick(self) -> list[types.Action]:
        """What `on_tick` does."""
        return self._session.on_tick()

    def reload(self, cause: contract.ResumeCause = contract.ResumeCause.RELOAD) -> None:
        """Moves it to a new session, as a reload of the filter does."""
        self._session = self._handler.resume(self._request, self._session.save(), cause).session


def open(
    filter_class: Type[Filter],
    config: Optional[dict[str, Any]] = None,
    headers: Optional[dict[str, str]] = None,
    host: Optional[Host] = None,
    **request: Any,
) -> Connection:
    """Starts a filter with a configuration and opens a connection. Raises `Err`: with a text, or with the refusal."""
    host = host or Host()
    host.install()
    handler = export(filter_class)()
    handler.init(json.dumps(config or {}))
    lines = [types.Header(name.lower(), value.encode()) for name, value in (headers or {}).items()]
    asked: dict[str, Any] = {
        "connection": "c1", "route": "test", "host": "localhost", "path": "/", "parameters": [], "query": None,
        "headers": lines, "subprotocols": [], "client": "192.0.2.1:1234", "secure": False, "client_certificate": None,
        "identity": None, **request,
    }
    return Connection(handler, types.Handshake(**asked), host)

"""What the gateway offers: logs, time, figures, topics and other connections, stores."""

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Union

from componentize_py_types import Err
from wit_world.imports import clock as _clock
from wit_world.imports import key_value as _key_value
from wit_world.imports import logging as _logging
from wit_world.imports import messaging as _messaging
from wit_world.imports import metrics as _metrics

from .verdict import Message, close_info, message, utf8

Labels = Mapping[str, object]


class HostError(Exception):
    """An import of the gateway failed. `kind` is the contract's word for why, such as `denied`."""

    def __init__(self, call: str, error: Any) -> None:
        name = type(error).__name__.removeprefix("Error_")
        self.kind = "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")
        detail = getattr(error, "value", None)
        super().__init__(f"{call}: {self.kind}: {detail}" if detail else f"{call}: {self.kind}")


@contextmanager
def host_call(name: str) -> Iterator[None]:
    """What a call of the gateway raises becomes a `HostError`."""
    try:
        yield
    except Err as error:
        raise HostError(name, error.value) from None


def _pairs(table: Labels) -> list[tuple[str, str]]:
    return [(utf8(name), utf8(str(value))) for name, value in table.items()]


def _line(level: _logging.Level) -> Callable[..., None]:
    def write(text: object, **fields: object) -> None:
        if _logging.enabled(level):
            _logging.log(level, utf8(str(text)), _pairs(fields))

    return write


class log:
    """Lines in the gateway's log: `log.info("text", field="value")`. Python's own `logging` goes there too."""

    trace = staticmethod(_line(_logging.Level.TRACE))
    debug = staticmethod(_line(_logging.Level.DEBUG))
    info = staticmethod(_line(_logging.Level.INFO))
    warn = staticmethod(_line(_logging.Level.WARN))
    error = staticmethod(_line(_logging.Level.ERROR))


class LogHandler(logging.Handler):
    """Takes what Python's `logging` writes to the gateway's log."""

    def emit(self, record: logging.LogRecord) -> None:
        levels = ((logging.ERROR, log.error), (logging.WARNING, log.warn), (logging.INFO, log.info))
        write = next((write for level, write in levels if record.levelno >= level), log.debug)
        write(self.format(record))


def reason(label: str) -> None:
    """Names why this call decided as it did, by a short label of a small set."""
    _logging.reason(utf8(label))


class clock:
    """The time."""

    @staticmethod
    def now_ms() -> int:
        """Milliseconds of Unix time."""
        return _clock.now_ms()

    @staticmethod
    def monotonic_ns() -> int:
        """Nanoseconds since some moment. It never goes back."""
        return _clock.monotonic_ns()


class metrics:
    """Figures of the filter's own."""

    @staticmethod
    def add(counter: str, labels: Labels = {}, by: int = 1) -> None:
        """Add to a counter."""
        _metrics.add(counter, _pairs(labels), by)

    @staticmethod
    def observe(histogram: str, labels: Labels, value: float) -> None:
        """Record a value in a histogram."""
        _metrics.observe(histogram, _pairs(labels), value)


class messaging:
    """Topics and single connections. Every function raises `HostError`."""

    @staticmethod
    def send(to: str, value: Message) -> None:
        """Send a message to the client of a connection."""
        with host_call("messaging.send"):
            _messaging.send(to, message(value))

    @staticmethod
    def close(connection: str, code: int, reason: str = "") -> None:
        """Close a connection."""
        with host_call("messaging.close"):
            _messaging.close(connection, close_info(code, reason))

    @staticmethod
    def publish(topic: str, value: Message, exclude: Optional[str] = None) -> None:
        """Publish a message to every subscriber of a topic but for `exclude`."""
        with host_call("messaging.publish"):
            _messaging.publish(topic, message(value), exclude)

    @staticmethod
    def subscribe(connection: str, topic: str) -> None:
        """Subscribe a connection to a topic."""
        with host_call("messaging.subscribe"):
            _messaging.subscribe(connection, topic)

    @staticmethod
    def unsubscribe(connection: str, topic: str) -> None:
        """End a subscription."""
        with host_call("messaging.unsubscribe"):
            _messaging.unsubscribe(connection, topic)


class Entry:
    """What a key of a store has."""

    def __init__(self, raw: _key_value.Entry) -> None:
        self.value: bytes = bytes(raw.value)
        self.version = raw.version

    def text(self) -> str:
        """The value as text."""
        return self.value.decode()

    def json(self) -> Any:
        """The value as JSON."""
        return json.loads(self.value)


class Store:
    """A store of the gateway, which connections, filters and instances share. Every function raises `HostError`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _call(self, function: str) -> Any:
        return host_call(f"store {self.name}: {function}")

    def get(self, key: str) -> Optional[Entry]:
        """Read a key; none where it is absent."""
        with self._call("get"):
            entry = _key_value.get(self.name, key)
        return Entry(entry) if entry else None

    def set(self, key: str, value: Union[str, bytes], ttl_ms: Optional[int] = None) -> int:
        """Write a key. Returns its new version."""
        with self._call("set"):
            return _key_value.set(self.name, key, _bytes(value), ttl_ms)

    def compare_and_set(
        self, key: str, expected: Optional[int], value: Union[str, bytes], ttl_ms: Optional[int] = None
    ) -> bool:
        """Write a key where its version is still `expected`; with none, only where it is absent."""
        with self._call("compare_and_set"):
            return _key_value.compare_and_set(self.name, key, expected, _bytes(value), ttl_ms)

    def delete(self, key: str) -> None:
        """Remove a key."""
        with self._call("delete"):
            _key_value.delete(self.name, key)

    def increment(self, key: str, by: int = 1, ttl_ms: Optional[int] = None) -> int:
        """Add to a counter and return its new value."""
        with self._call("increment"):
            return _key_value.increment(self.name, key, by, ttl_ms)


def _bytes(value: Union[str, bytes]) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)

"""The opening request of a connection, and what is answered to it."""

import json
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, Optional, Union
from urllib.parse import parse_qs

from wit_world.imports import types

from .verdict import Headers, header_list, to_json


class Identity:
    """Who the client is, as the gateway verified it."""

    def __init__(self, raw: types.Identity) -> None:
        self.subject = raw.subject
        self.issuer = raw.issuer
        self.scopes = raw.scopes
        self.expires_at = raw.expires_at
        self.claims: dict[str, Any] = json.loads(raw.claims or "{}")

    def has_scope(self, scope: str) -> bool:
        """Whether this scope was granted."""
        return scope in self.scopes


class Handshake:
    """The opening HTTP request of a connection."""

    def __init__(self, raw: types.Handshake) -> None:
        self.connection = raw.connection
        self.route = raw.route
        self.host = raw.host
        self.path = raw.path
        self.parameters = dict(raw.parameters)
        self.query = raw.query
        self.headers: list[tuple[str, bytes]] = [(header.name, header.value) for header in raw.headers]
        self.subprotocols = raw.subprotocols
        self.client = raw.client
        self.secure = raw.secure
        self.client_certificate = raw.client_certificate
        self.identity = Identity(raw.identity) if raw.identity else None

    def header_all(self, name: str) -> list[str]:
        """The values of all headers of this name, in any case."""
        name = name.lower()
        return [value.decode(errors="replace") for header, value in self.headers if header.lower() == name]

    def header(self, name: str) -> Optional[str]:
        """The value of the first header of this name."""
        return next(iter(self.header_all(name)), None)

    def cookie(self, name: str) -> Optional[str]:
        """The value of a cookie."""
        for header in self.header_all("cookie"):
            if morsel := SimpleCookie(header).get(name):
                return morsel.value
        return None

    def query_all(self, name: str) -> list[str]:
        """All values of this name in the query, decoded."""
        return parse_qs(self.query or "", keep_blank_values=True).get(name, [])

    def query_value(self, name: str) -> Optional[str]:
        """The first value of this name in the query, decoded."""
        return next(iter(self.query_all(name)), None)


@dataclass
class HeaderEdits:
    """Edits to headers: first `remove`, then `set`, then `append`."""

    set: Headers = field(default_factory=dict)
    append: Headers = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)

    def raw(self) -> types.HeaderEdits:
        """The contract's form."""
        return types.HeaderEdits(header_list(self.set), header_list(self.append), list(self.remove))


class Refusal(Exception):
    """The answer to a handshake that is refused: raise it, or return it, in `open`. A body that is no `str` or `bytes` is JSON."""

    def __init__(self, status: int, body: Any = None, headers: Headers = ()) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.headers = header_list(headers)
        kind: Union[str, None] = None
        if body is None:
            self.body = b""
        elif isinstance(body, bytes):
            self.body = body
        else:
            kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
            self.body = (body if isinstance(body, str) else to_json(body)).encode()
        if kind and not any(header.name.lower() == "content-type" for header in self.headers):
            self.headers.append(types.Header("content-type", kind.encode()))

    def raw(self) -> types.Refusal:
        """The contract's form."""
        return types.Refusal(self.status, self.headers, self.body)


class KeepOld(Exception):
    """Raised by `resume`: the connection stays with the old generation of the filter."""


class CloseConnection(Exception):
    """Raised by `resume`: the connection may not go on under this filter."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

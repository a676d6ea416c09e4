"""HTTP requests. A filter that imports this has the world `filter-http` and needs `allow = { http = [...] }`."""

import json
from typing import Any, Optional, Union

from wit_world.imports import http_client

from .host import host_call
from .verdict import Headers, header_list


class Response:
    """A whole response, of any status."""

    def __init__(self, raw: http_client.Response) -> None:
        self.status = raw.status
        self.headers: list[tuple[str, str]] = [(header.name, header.value.decode(errors="replace")) for header in raw.headers]
        self.body: bytes = bytes(raw.body)

    def header(self, name: str) -> Optional[str]:
        """The first header of this name."""
        return next((value for header, value in self.headers if header == name.lower()), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(
    method: str, url: str, body: Union[str, bytes] = b"", headers: Headers = (), timeout_ms: int = 1_000
) -> Response:
    """Sends a request and waits for the response. Raises `HostError`."""
    payload = body.encode() if isinstance(body, str) else body
    with host_call(f"{method} {url}"):
        return Response(http_client.send(http_client.Request(method, url, header_list(headers), payload, timeout_ms)))

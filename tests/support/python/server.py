"""A WebSocket echo server that does as it is told. One JSON event a line on stdout.

Text messages that start with `!` are commands: `!close [CODE REASON]`, `!die`, `!push COUNT TEXT`.
`/refuse/STATUS` answers the handshake with that status.
"""

import asyncio
import json
from http import HTTPStatus

from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

SUBPROTOCOLS = ["chat.v2", "chat.v1"]


def report(**event):
    print(json.dumps(event), flush=True)


def refuse(connection, request):
    if not request.path.startswith("/refuse/"):
        return None
    status = HTTPStatus(int(request.path.rsplit("/", 1)[1]))
    body = f"refused by the upstream with {status.value}".encode()
    headers = Headers({"Content-Length": str(len(body)), "WWW-Authenticate": "Bearer", "X-Internal": "secret"})
    return Response(status.value, status.phrase, headers, body)


def choose(connection, offered):
    return next((name for name in SUBPROTOCOLS if name in offered), None)


async def obey(connection, command):
    verb, _, rest = command.partition(" ")
    if verb == "!close":
        code, _, reason = rest.partition(" ")
        if code:
            await connection.close(int(code), reason)
        else:
            async with connection.send_context():
                connection.protocol.send_close()
    elif verb == "!die":
        connection.transport.abort()
    elif verb == "!push":
        count, _, text = rest.partition(" ")
        for number in range(int(count)):
            await connection.send(f"{text} {number}")


async def handle(connection):
    request = connection.request
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    report(event="open", path=request.path, subprotocol=connection.subprotocol, headers=headers)
    try:
        async for message in connection:
            if isinstance(message, str) and message.startswith("!"):
                await obey(connection, message)
            else:
                await connection.send(message)
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    report(event="close", path=request.path, code=connection.close_code, reason=connection.close_reason)


async def main():
    server = await serve(
        handle,
        "127.0.0.1",
        0,
        process_request=refuse,
        select_subprotocol=choose,
        max_size=None,
        ping_interval=None,
    )
    report(event="listening", port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())

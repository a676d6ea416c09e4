"""A WebSocket client driven by one JSON command a line on stdin; each is answered by one JSON line on stdout."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

connection = None


def closed():
    return {"closed": [connection.close_code, connection.close_reason]}


def payload(number, size, kind):
    text = f"{number:08d}".ljust(size, "x")
    return text if kind == "text" else text.encode()


async def do_connect(url, subprotocols=None, headers=None):
    global connection
    try:
        connection = await connect(
            url, subprotocols=subprotocols, additional_headers=headers, max_size=None, ping_interval=None, proxy=None
        )
    except InvalidStatus as refused:
        response = refused.response
        names = {name.lower(): value for name, value in response.headers.raw_items()}
        return {"status": response.status_code, "headers": names, "body": bytes(response.body or b"").decode()}
    return {"status": 101, "subprotocol": connection.subprotocol}


async def do_send(text=None, hex=None):
    await connection.send(text if text is not None else bytes.fromhex(hex))
    return {}


async def do_receive():
    try:
        message = await connection.recv()
    except ConnectionClosed:
        return closed()
    return {"text": message} if isinstance(message, str) else {"hex": message.hex()}


async def do_roundtrips(count, size, kind, window):
    """Keeps `window` messages in flight and checks that each comes back whole, once and in order."""
    slots = asyncio.Semaphore(window)

    async def send():
        for number in range(count):
            await slots.acquire()
            await connection.send(payload(number, size, kind))

    sending = asyncio.create_task(send())
    for number in range(count):
        message = await connection.recv()
        if message != payload(number, size, kind):
            return {"error": f"message {number} came back as {message[:40]!r}"}
        slots.release()
    await sending
    return {"answered": count}


async def do_close(code=None, reason=""):
    if code is None:
        async with connection.send_context():
            connection.protocol.send_close()
    else:
        await connection.close(code, reason)
    await connection.wait_closed()
    return closed()


async def do_wait_closed():
    await connection.wait_closed()
    return closed()


async def do_vanish():
    connection.transport.abort()
    return {}


async def main():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        do = globals()["do_" + command.pop("do")]
        try:
            answer = await do(**command)
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


asyncio.run(main())

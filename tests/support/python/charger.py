"""OCPP 1.6 on both sides, by the library `ocpp`: a central system, and a charge point that talks to it over a URL."""

import asyncio
import json
import sys
from datetime import datetime, timezone

import websockets
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action, RegistrationStatus


class Central(ChargePoint):
    @on(Action.boot_notification)
    def on_boot(self, **_):
        now = datetime.now(timezone.utc).isoformat()
        return call_result.BootNotification(current_time=now, interval=10, status=RegistrationStatus.accepted)

    @on(Action.heartbeat)
    def on_heartbeat(self):
        return call_result.Heartbeat(current_time=datetime.now(timezone.utc).isoformat())


class Charger(ChargePoint):
    @on(Action.reset)
    def on_reset(self, **_):
        return call_result.Reset(status="Accepted")


async def central():
    async def serve(connection):
        point = Central(connection.request.path.rsplit("/")[-1], connection)
        listening = asyncio.create_task(point.start())
        await asyncio.sleep(0.1)
        reset = await point.call(call.Reset(type="Soft"))
        say({"point": point.id, "subprotocol": connection.subprotocol, "reset": reset.status})
        await asyncio.gather(listening, return_exceptions=True)

    async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=["ocpp1.6"]) as server:
        say({"port": server.sockets[0].getsockname()[1]})
        await asyncio.Future()


async def charger(url):
    async with websockets.connect(url, subprotocols=["ocpp1.6"]) as connection:
        point = Charger("CP_1", connection)
        listening = asyncio.create_task(point.start())
        boot = await point.call(call.BootNotification(charge_point_model="M", charge_point_vendor="V"))
        beat = await point.call(call.Heartbeat())
        say({"boot": boot.status, "beat": bool(beat.current_time), "subprotocol": connection.subprotocol})
        await asyncio.gather(listening, return_exceptions=True)


def say(answer):
    print(json.dumps(answer), flush=True)


asyncio.run(central() if sys.argv[1] == "central" else charger(sys.argv[2]))

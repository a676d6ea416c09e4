"""The filter of tests/languages.rs: the same in Rust, JavaScript, Python and C."""

import json
from dataclasses import dataclass

from wsgate import (
    Admission, Filter, HeaderEdits, HostError, Interest, Refusal, Store, act, close, drop, export, replace, reply,
    to_client, to_json, to_upstream,
)


@dataclass
class Config:
    greeting: str = "hello"
    first_count: int = 0


class Four(Filter):
    Config = Config
    interest = Interest(directions="to_upstream")

    @classmethod
    def open(cls, handshake, config):
        if handshake.header("x-refuse") is not None:
            raise Refusal(403, "not today 😀", {"x-why": "four"})
        return Admission(cls(handshake, config), client_headers=HeaderEdits(set={"x-four": "yes"}))

    def __init__(self, handshake, config):
        self.greeting = config.greeting
        self.count = config.first_count

    def resume(self, state, cause):
        self.count = self.count if state is None else state

    def save(self):
        return self.count

    def on_message(self, direction, message):
        self.count += 1
        if isinstance(message, bytes):
            return replace(message[::-1])
        match message:
            case "characters":
                return reply("grüße 😀 𝄞")
            case "several":
                return act(to_client("one"), to_upstream("two"), to_client("three 😀"))
            case "drop":
                return drop()
            case "bye":
                return close(4001, "auf Wiedersehen 👋")
            case "count":
                return reply(str(self.count))
            case "fail":
                raise Exception("four failed 😀")
            case "hits":
                return reply(str(Store("shared").increment("hits")))
            case "read":
                entry = Store("shared").get("hits")
                return reply(entry.value if entry else b"")
            case "denied":
                try:
                    Store("others").get("hits")
                except HostError as error:
                    return reply(error.kind)
        if message.startswith("greet "):
            return replace(f"{self.greeting}, {message.removeprefix('greet ')}")
        if message.startswith("{"):
            return replace(to_json(json.loads(message) | {"seen": True}))
        return None


Handler = export(Four)

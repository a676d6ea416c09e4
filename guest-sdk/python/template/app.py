"""Puts `replacement` for each of `words` in what clients send."""

from dataclasses import dataclass, field

from wsgate import Direction, Filter, Handshake, Interest, Message, Refusal, Verdict, export, forward, replace, reply, to_json


@dataclass
class Config:
    words: list[str] = field(default_factory=lambda: ["teh"])
    replacement: str = "the"


class Words(Filter):
    """One value is one connection."""

    Config = Config
    interest = Interest(directions="to_upstream", kinds="text")

    def __init__(self, handshake: Handshake, config: Config) -> None:
        if handshake.query_value("token") == "":
            raise Refusal(401, {"error": "who are you?"})
        self.config = config
        self.replaced = 0

    def on_message(self, direction: Direction, message: Message) -> Verdict:
        if not isinstance(message, str):
            return forward()
        if message == "how many?":
            return reply(to_json({"replaced": self.replaced}))
        text = message
        for word in self.config.words:
            self.replaced += text.count(word)
            text = text.replace(word, self.config.replacement)
        return forward() if text == message else replace(text)

    # What a connection has counted outlives every reload of this filter.
    def save(self) -> dict[str, int]:
        return {"replaced": self.replaced}

    def resume(self, state: dict[str, int] | None, cause: object) -> None:
        self.replaced = state["replaced"] if state else 0


Handler = export(Words)

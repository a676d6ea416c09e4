"""What a filter decides: verdicts on messages, and actions. A `str` is a text message, `bytes` are a binary one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Union

from wit_world.imports import types
from wit_world.imports.types import Action, CloseInfo, Verdict

Message = Union[str, bytes]
Headers = Union[Mapping[str, Union[str, bytes]], Iterable[tuple[str, Union[str, bytes]]]]


def show(value: object) -> str:
    """A value as a short piece of a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def utf8(text: str) -> str:
    """The same text; half a surrogate pair, which is no UTF-8, becomes U+FFFD."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def message(value: Message) -> types.Message:
    """The contract's message."""
    if isinstance(value, str):
        return types.Message_Text(utf8(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return types.Message_Binary(bytes(value))
    raise TypeError(f"a message is a str or bytes, not {show(value)}")


def plain(value: types.Message) -> Message:
    """A message of the contract as a `str` or `bytes`."""
    return value.value


def close_info(code: int, reason: str = "") -> CloseInfo:
    """How a connection is closed."""
    if not 0 <= code <= 0xFFFF:
        raise ValueError(f"{code} is no close code")
    return CloseInfo(code, utf8(reason))


def forward() -> Verdict:
    """Pass the message on as it came. Nothing is copied back, so this costs least."""
    return types.Verdict_Forward()


def drop() -> Verdict:
    """The message goes no further. Its sender is not told."""
    return types.Verdict_Drop()


def replace(value: Message) -> Verdict:
    """Pass this message on instead."""
    return types.Verdict_Replace(message(value))


def reply(value: Message) -> Verdict:
    """Send this back to where the message came from; the message itself goes no further."""
    return types.Verdict_Reply(message(value))


def route(upstream: str) -> Verdict:
    """Send the message to another configured upstream. The filter's `allow` has to name it."""
    return types.Verdict_Route(upstream)


class _Close(types.Verdict_Close, types.Action_Close):
    """Closing is a verdict and an action."""


def close(code: int, reason: str = "") -> _Close:
    """Close the connection. Also an action."""
    return _Close(close_info(code, reason))


def act(*actions: Action) -> Verdict:
    """Do these things instead of passing the message on, in this order."""
    return types.Verdict_Act(action_list("act", list(actions)))


def to_client(value: Message) -> Action:
    """Send a message to the client."""
    return types.Action_ToClient(message(value))


def to_upstream(value: Message) -> Action:
    """Send a message to the upstream."""
    return types.Action_ToUpstream(message(value))


def to_json(value: Any) -> str:
    """A value as the text of a message."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_VERDICTS = (
    types.Verdict_Forward, types.Verdict_Replace, types.Verdict_Drop, types.Verdict_Reply, types.Verdict_Close,
    types.Verdict_Act, types.Verdict_Route,
)
_ACTIONS = (types.Action_ToClient, types.Action_ToUpstream, types.Action_Close)


def verdict_of(hook: str, value: Any) -> Verdict:
    """What a hook returned: none forwards, a list of actions is done."""
    if value is None:
        return types.Verdict_Forward()
    if isinstance(value, list):
        return types.Verdict_Act(action_list(hook, value))
    if type(value) is _Close:
        return types.Verdict_Close(value.value)
    if not isinstance(value, _VERDICTS):
        raise TypeError(f"{hook} returned {show(value)}, which is no verdict")
    return value


def action_list(hook: str, value: Any) -> list[Action]:
    """What a hook returned: none, one action or a list."""
    actions = [] if value is None else value if isinstance(value, list) else [value]
    for action in actions:
        if not isinstance(action, _ACTIONS):
            raise TypeError(f"{hook}: {show(action)} is no action")
    return [types.Action_Close(action.value) if type(action) is _Close else action for action in actions]


def header_list(headers: Headers) -> list[types.Header]:
    """Headers of the contract."""
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [types.Header(name, value.encode() if isinstance(value, str) else bytes(value)) for name, value in items]

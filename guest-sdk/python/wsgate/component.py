"""From the contract's functions to `Filter`."""

import json
import logging
import re
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Type, Union

from componentize_py_types import Err
from wit_world.exports import handler as contract
from wit_world.imports import types
from wit_world.imports.types import Action, Direction, Hooks, Kinds, Verdict

from . import config
from .handshake import CloseConnection, Handshake, HeaderEdits, Identity, KeepOld, Refusal
from .host import LogHandler, log
from .verdict import Message, action_list, close_info, plain, show, utf8, verdict_of

ResumeCause = contract.ResumeCause
_HOOKS = ("on_message", "on_delivery", "on_identity", "on_close")


@dataclass(frozen=True)
class Interest:
    """What to be called for, beside the hooks that a filter defines."""

    directions: Literal["both", "to_upstream", "to_client"] = "both"
    kinds: Literal["both", "text", "binary"] = "both"
    tick_ms: Optional[int] = None

    def raw(self, filter_class: Type["Filter"]) -> types.Interest:
        """The contract's form, for the hooks of this class."""
        defined = {hook for hook in (*_HOOKS, "on_tick") if getattr(filter_class, hook) is not getattr(Filter, hook)}
        if self.directions not in ("both", "to_upstream", "to_client"):
            raise ValueError(f"interest: directions cannot be {show(self.directions)}")
        if self.kinds not in ("both", "text", "binary"):
            raise ValueError(f"interest: kinds cannot be {show(self.kinds)}")
        if "on_tick" in defined and self.tick_ms is None:
            raise ValueError("on_tick is never called without tick_ms in the interest")
        hooks, kinds = Hooks(0), Kinds(0)
        if "on_message" in defined and self.directions != "to_client":
            hooks |= Hooks.TO_UPSTREAM
        if "on_message" in defined and self.directions != "to_upstream":
            hooks |= Hooks.TO_CLIENT
        for hook, flag in (("on_delivery", Hooks.DELIVERY), ("on_identity", Hooks.IDENTITY), ("on_close", Hooks.CLOSE)):
            hooks |= flag if hook in defined else Hooks(0)
        kinds |= Kinds.TEXT if self.kinds != "binary" else Kinds(0)
        kinds |= Kinds.BINARY if self.kinds != "text" else Kinds(0)
        return types.Interest(hooks, kinds, self.tick_ms if "on_tick" in defined else None)


@dataclass
class Admission:
    """A connection is let in, with edits and choices. `open` may return the filter alone instead."""

    filter: "Filter"
    upstream_headers: HeaderEdits = field(default_factory=HeaderEdits)
    client_headers: HeaderEdits = field(default_factory=HeaderEdits)
    subprotocol: Optional[str] = None
    upstream: Optional[str] = None
    tags: dict[str, str] = field(default_factory=dict)
    interest: Optional[Interest] = None


class Filter:
    """A filter. Each value is one open connection.

    What a function raises is the fault of that call alone: its text goes to the log, and the filter's `failure_policy` decides
    about the connection. Only functions that a class defines are called.
    """

    Config: Any = dict
    """A dataclass that the configuration is read into; `dict` takes any table as it is."""
    interest: Interest = Interest()
    """Directions, kinds and the period of `on_tick`."""
    state: Literal["json", "bytes"] = "json"
    """What `save` returns and `resume` gets: anything that JSON can say, or bytes."""

    def __init__(self, handshake: Handshake, config: Any) -> None:
        self.handshake = handshake
        self.config = config

    @classmethod
    def interest_for(cls, config: Any) -> Interest:
        """The interest under this configuration. May raise what is wrong with it."""
        return cls.interest

    @classmethod
    def open(cls, handshake: Handshake, config: Any) -> Union["Filter", Admission, Refusal]:
        """Admits or refuses a connection: returns the filter or an `Admission`; raises or returns a `Refusal`."""
        return cls(handshake, config)

    def resume(self, state: Any, cause: ResumeCause) -> None:
        """Called instead of starting anew, after `open`, for a connection that is open already, with what `save` had returned, or none.

        May raise `KeepOld` or `CloseConnection`.
        """

    def on_message(self, direction: Direction, message: Message) -> Union[Verdict, list[Action], None]:
        """Decides on one message. None forwards it."""
        return None

    def on_delivery(self, topic: str, message: Message) -> Union[Verdict, list[Action], None]:
        """Decides on a message of a topic that this connection is subscribed to."""
        return None

    def on_tick(self) -> Union[Action, list[Action], None]:
        """Called once in every `tick_ms` of the interest."""
        return None

    def on_identity(self, identity: Identity) -> Union[Action, list[Action], None]:
        """The client's token was refreshed."""
        return None

    def on_close(self, by: types.Closer, info: types.CloseInfo) -> None:
        """The connection is over."""

    def save(self) -> Any:
        """State for `resume` of the next generation. None is no state."""
        return None


def text_of(error: BaseException) -> str:
    """What the log shows. A plain `Exception` or `ConfigError` is a text for people; others tell of a mistake in the code."""
    if type(error) in (Exception, config.ConfigError):
        return utf8(str(error))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not re.search(r"(^|/)(wsgate/|contextlib\.py)", frame.filename)]
    place = f" ({own[-1].filename.rsplit('/', 1)[-1]}:{own[-1].lineno})" if own else ""
    return utf8(f"{type(error).__name__}: {error}{place}")


def save_state(form: str, state: Any) -> Optional[bytes]:
    """What `save` returned, as bytes."""
    if state is None:
        return None
    return bytes(state) if form == "bytes" else json.dumps(state).encode()


def saved_state(form: str, state: Optional[bytes]) -> Any:
    """What `save` had returned."""
    return state if state is None or form == "bytes" else json.loads(state)


class Session:
    """One open connection, as the contract sees it."""

    def __init__(self, filter: Filter) -> None:
        self._filter = filter

    def on_message(self, direction: Direction, message: types.Message) -> Verdict:
        try:
            return verdict_of("on_message", self._filter.on_message(direction, message.value))
        except Exception as error:
            raise Err(text_of(error)) from None

    def on_delivery(self, topic: str, message: types.Message) -> Verdict:
        try:
            return verdict_of("on_delivery", self._filter.on_delivery(topic, plain(message)))
        except Exception as error:
            raise Err(text_of(error)) from None

    def on_tick(self) -> list[Action]:
        try:
            return action_list("on_tick", self._filter.on_tick())
        except Exception as error:
            raise Err(text_of(error)) from None

    def on_identity(self, identity: types.Identity) -> list[Action]:
        try:
            return action_list("on_identity", self._filter.on_identity(Identity(identity)))
        except Exception as error:
            raise Err(text_of(error)) from None

    def on_close(self, by: types.Closer, info: types.CloseInfo) -> None:
        try:
            self._filter.on_close(by, info)
        except Exception as error:
            log.error(f"on_close: {text_of(error)}")

    def save(self) -> Optional[bytes]:
        try:
            return save_state(self._filter.state, self._filter.save())
        except Exception as error:
            log.error(f"save: {text_of(error)}")
            return None


class _Handler:
    """The contract's functions for one class of filter."""

    filter_class: Type[Filter]
    _config: Any = None

    def init(self, text: str) -> types.Interest:
        cls = self.filter_class
        try:
            _Handler._config = config.parse(text, cls.Config)
            return cls.interest_for(_Handler._config).raw(cls)
        except Exception as error:
            raise Err(text_of(error)) from None

    def _opened(self, request: types.Handshake) -> Admission:
        opened = self.filter_class.open(Handshake(request), _Handler._config)
        if isinstance(opened, Refusal):
            raise opened
        if isinstance(opened, Filter):
            return Admission(opened)
        if not isinstance(opened, Admission):
            raise TypeError(f"open returned {show(opened)}, which is no filter")
        return opened

    def _interest(self, admission: Admission) -> Optional[types.Interest]:
        cls = type(admission.filter)
        if admission.interest is None and cls is self.filter_class:
            return None
        return (admission.interest or cls.interest_for(_Handler._config)).raw(cls)

    def open(self, request: types.Handshake) -> contract.Admission:
        try:
            admission = self._opened(request)
            return contract.Admission(
                session=Session(admission.filter),  # type: ignore[arg-type]
                interest=self._interest(admission),
                upstream_headers=admission.upstream_headers.raw(),
                client_headers=admission.client_headers.raw(),
                subprotocol=admission.subprotocol,
                upstream=admission.upstream,
                tags=list(admission.tags.items()),
            )
        except Refusal as refusal:
            raise Err(refusal.raw()) from None
        except Exception as error:
            log.error(f"a handshake failed: {text_of(error)}")
            raise Err(types.Refusal(500, [], b"")) from None

    def resume(
        self, request: types.Handshake, state: Optional[bytes], cause: contract.ResumeCause
    ) -> contract.Resumed:
        try:
            admission = self._opened(request)
            admission.filter.resume(saved_state(admission.filter.state, state), cause)
            return contract.Resumed(Session(admission.filter), self._interest(admission))  # type: ignore[arg-type]
        except Refusal:
            raise Err(contract.Rejection_Close(close_info(1008, "no longer admitted"))) from None
        except CloseConnection as closed:
            raise Err(contract.Rejection_Close(close_info(closed.code, closed.reason))) from None
        except Exception as error:
            text = str(error) if isinstance(error, KeepOld) else text_of(error)
            raise Err(contract.Rejection_KeepOld(text)) from None


def export(filter_class: Type[Filter]) -> Type[_Handler]:
    """Makes a class the filter of this component: `Handler = export(MyFilter)`, at the end of its module."""
    if sys.platform == "wasi":
        logging.basicConfig(handlers=[LogHandler()], level=logging.NOTSET, format="%(message)s", force=True)
    return type("Handler", (_Handler,), {"filter_class": filter_class})

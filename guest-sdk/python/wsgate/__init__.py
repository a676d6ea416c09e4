"""Write filters for the wsgate WebSocket gateway in Python."""

from wit_world.imports.types import Action, CloseInfo, Closer, Direction, Verdict

from .component import Admission, Filter, Interest, ResumeCause, export
from .config import ConfigError
from .handshake import CloseConnection, Handshake, HeaderEdits, Identity, KeepOld, Refusal
from .host import Entry, HostError, Store, clock, log, messaging, metrics, reason
from .verdict import Message, act, close, drop, forward, replace, reply, route, to_client, to_json, to_upstream

__all__ = [
    "Action", "Admission", "CloseConnection", "CloseInfo", "Closer", "ConfigError", "Direction", "Entry", "Filter",
    "Handshake", "HeaderEdits", "HostError", "Identity", "Interest", "KeepOld", "Message", "Refusal", "ResumeCause",
    "Store", "Verdict", "act", "clock", "close", "drop", "export", "forward", "log", "messaging", "metrics", "reason",
    "replace", "reply", "route", "to_client", "to_json", "to_upstream",
]

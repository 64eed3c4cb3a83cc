"""The one guarded way out: nothing else in this project opens a connection to another server."""

from .addresses import Allowance, parse_allowance, require_url
from .asynchronous import guarded_client_factory, guarded_http_client
from .blocking import NOISY_LOGGERS, leave_database
from .exchange import Egress
from .limits import Limits
from .resolve import judge_url
from .token_sender import Answer, Sender, open_sender

__all__ = [
    "NOISY_LOGGERS",
    "Allowance",
    "Answer",
    "Egress",
    "Limits",
    "Sender",
    "guarded_client_factory",
    "guarded_http_client",
    "judge_url",
    "leave_database",
    "open_sender",
    "parse_allowance",
    "require_url",
]

"""JSON-RPC messages of both eras of MCP, as clients POST them: read strictly, checked, and written anew."""

from .message import Era, Message, RefusedMessageError, error_body
from .read import check_headers_without_body, read_message

__all__ = [
    "Era",
    "Message",
    "RefusedMessageError",
    "check_headers_without_body",
    "error_body",
    "read_message",
]

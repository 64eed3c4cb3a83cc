"""The tools and resources. None of them sees a token: they are told who is calling."""

from __future__ import annotations

from collections.abc import Callable

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from pydantic import BaseModel

from . import scopes
from .identity import Identity
from .store import Note, NoteStore


class Profile(BaseModel):
    """Who is calling, and through which program."""

    subject: str
    client_id: str
    scopes: list[str]


class NoteList(BaseModel):
    """Somebody's notes, newest first."""

    notes: list[Note]


class Usage(BaseModel):
    """Somebody's calls so far, this one included."""

    total_calls: int
    calls_by_tool: dict[str, int]
    notes: int


class Notebook:
    """One person's view of the store per call; `identify` tells whose."""

    def __init__(self, store: NoteStore, *, identify: Callable[[], Identity]) -> None:
        self._store = store
        self._identify = identify

    def register(self, server: MCPServer) -> None:
        """Offer the tools and resources on `server`."""
        for tool in (self.get_user_profile, self.create_secure_note, self.list_secure_notes, self.get_api_usage):
            server.add_tool(tool)
        server.resource(scopes.PROFILE_URI, mime_type="application/json")(self.profile)
        server.resource(scopes.NOTE_URI, mime_type="text/plain")(self.note)

    def get_user_profile(self) -> Profile:
        """Tell who you are to this server."""
        return _profile(self._caller_of("get_user_profile"))

    def create_secure_note(self, title: str, content: str) -> Note:
        """Keep a note that only you can read."""
        caller = self._caller_of("create_secure_note")
        return self._store.create(title, content=content, subject=caller.subject)

    def list_secure_notes(self) -> NoteList:
        """List your notes, newest first."""
        caller = self._caller_of("list_secure_notes")
        return NoteList(notes=self._store.notes_of(caller.subject))

    def get_api_usage(self) -> Usage:
        """Count your calls so far."""
        caller = self._caller_of("get_api_usage")
        calls = self._store.calls_of(caller.subject)
        notes = self._store.notes_of(caller.subject)
        return Usage(total_calls=sum(calls.values()), calls_by_tool=calls, notes=len(notes))

    def profile(self) -> str:
        """Your profile as JSON."""
        return _profile(self._reader_of(scopes.PROFILE_URI)).model_dump_json()

    def note(self, note_id: str) -> str:
        """One of your notes."""
        caller = self._reader_of(scopes.NOTE_URI)
        note = self._store.note(note_id, subject=caller.subject)
        if note is None:
            raise ResourceNotFoundError("There is no such note.")
        return f"{note.title}\n\n{note.content}"

    def _caller_of(self, tool: str) -> Identity:
        """Return the caller, who has the tool's scope, and count the call."""
        caller = self._identify()
        if scopes.OF_TOOL[tool] not in caller.scopes:
            raise ToolError(f"insufficient_scope: {tool} needs {scopes.OF_TOOL[tool]}")
        self._store.count_call(tool, subject=caller.subject)
        return caller

    def _reader_of(self, uri: str) -> Identity:
        caller = self._identify()
        if scopes.of_resource(uri) not in caller.scopes:
            raise ResourceError(f"insufficient_scope: {uri} needs {scopes.of_resource(uri)}")
        return caller


def _profile(caller: Identity) -> Profile:
    return Profile(subject=caller.subject, client_id=caller.client_id, scopes=sorted(caller.scopes))

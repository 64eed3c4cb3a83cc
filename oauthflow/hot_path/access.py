"""Who may use a server, in SQL: what `McpServer.objects.usable_by` says of a person who is active."""

from __future__ import annotations

from typing import Final

OPEN_TO_USER: Final = """(
    (NOT EXISTS (SELECT 1 FROM connections_mcpserver_users m WHERE m.mcpserver_id = s.id)
     AND NOT EXISTS (SELECT 1 FROM connections_mcpserver_groups m WHERE m.mcpserver_id = s.id))
    OR EXISTS (SELECT 1 FROM connections_mcpserver_users m WHERE m.mcpserver_id = s.id AND m.user_id = u.id)
    OR EXISTS (SELECT 1 FROM connections_mcpserver_groups m JOIN auth_user_groups g ON g.group_id = m.group_id
               WHERE m.mcpserver_id = s.id AND g.user_id = u.id)
  )"""
"""With `s` for the server and `u` for the user."""

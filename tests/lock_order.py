"""Watch all statements of all tests: under the lock on the end of the audit chain no other row may be waited for.

Every change takes that lock. Whoever holds it and waits for a row of somebody who waits for it is in a deadlock, which
shows once in thousands of runs, on PostgreSQL. So it is with the counters that are increased just before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_LAST: Final = r'UPDATE (audit_audithead|"authserver_revocationepoch"|"gateway_policyversion")'
_LOCKS_THE_END: Final = re.compile(rf"\s*({_LAST}|SELECT .*audit_audithead.* FOR )", re.DOTALL)
_TAKES_ROWS: Final = re.compile(r"\s*(INSERT|UPDATE|DELETE|SELECT .* FOR (NO KEY )?(UPDATE|SHARE))", re.DOTALL)
_MAY_FOLLOW: Final = re.compile(
    # Django's admin writes its own log and the groups and people of what was changed after the change, and deletes a
    # group after its rules; that waits for nobody but a deletion or a rule of the same.
    r"audit_auditrecord|audit_audithead|INTO oauthflow_event|django_admin_log|auth_user_|mcpserver_(users|groups)"
    r"|FROM \"auth_group\""
    rf"|{_LAST}|INTO \"(authserver_revocationepoch|gateway_policyversion)"
)


def watch(sender: object, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Watch a connection; receives `connection_created`."""
    change: list[Any] = []  # the outermost block of the application's transaction that holds the lock

    def judge(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        outermost = next((block for block in connection.atomic_blocks if not block._from_testcase), None)
        if change and change[0] is not outermost:
            change.clear()
        statement = str(sql)
        if outermost is not None and not change and _LOCKS_THE_END.match(statement):
            change.append(outermost)
        elif change and _TAKES_ROWS.match(statement) and not _MAY_FOLLOW.search(statement):
            raise AssertionError(f"after the audit record, which has to be last: {statement[:200]}")
        return execute(sql, params, many, context)

    if not any(each.__name__ == judge.__name__ for each in connection.execute_wrappers):
        connection.execute_wrappers.insert(0, judge)


def watch_connections() -> None:
    """Watch all that are opened from now on."""
    connection_created.connect(watch, dispatch_uid="tests.lock_order")

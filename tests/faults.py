"""The fault manifest: what may go wrong around a grant, what has to hold then, and the test marker.

A test that proves a row is marked `@fault("F03")`. `test_faults.py` holds both sides together, and the table in
`docs/reliability.md` with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        happens: What goes wrong.
        holds: What has to be true all the same.
        untested: Why no test of ours shows it.
    """

    happens: str
    holds: str
    untested: str = ""


FAULTS: Final = {
    "F01": Fault(
        "A process is killed around a token request.",
        "Nothing is lost before sending and after spooling; in between the token is sent again once, within 5 s.",
    ),
    "F02": Fault("Two processes want the same connection.", "Each refresh token reaches the server once."),
    "F03": Fault("A process is frozen past its lease and wakes.", "It sends nothing and overwrites nothing newer."),
    "F04": Fault(
        "The server is slower than anybody waits.",
        "No second request is sent while the first may be answered.",
    ),
    "F05": Fault(
        "Redis is gone, frozen, full or emptied.", "Tokens are released and renewed; nothing has to be restarted."
    ),
    "F06": Fault(
        "A message comes many times or never; two beats; none.",
        "Each token is renewed once; no beat: workers renew by themselves after a minute.",
    ),
    "F07": Fault(
        "The database is restarted.",
        "Answers on their way are kept; no grant gets a wrong state.",
    ),
    "F08": Fault("The database is gone while answers arrive.", "The spool holds them; they are stored on its return."),
    "F09": Fault("The database is read-only.", "No token request; tokens that work are released."),
    "F10": Fault("A disk is full.", "No claim without room for the answer; no row half written; logs stop nothing."),
    "F11": Fault("The database loses its last commits.", "The spool gives them back."),
    "F12": Fault("The server is down, slow, or answers with errors.", "Nobody is asked to sign in again."),
    "F13": Fault("The server answers nonsense with status 200.", "The grant is kept and tried again."),
    "F14": Fault("The server refuses us as a client.", "Nobody is marked; one alert; one try in five minutes."),
    "F15": Fault("The server refuses everybody's grants.", "At most twenty are believed."),
    "F16": Fault(
        "A server with many grants is gone for an hour.", "At most 150 requests in it; afterwards all are renewed."
    ),
    "F17": Fault(
        "Thousands of tokens end in the same minute.",
        "All are renewed before; at most 20 are under way.",
    ),
    "F18": Fault("One server hangs.", "Grants of other servers are renewed as ever."),
    "F19": Fault(
        "Clocks of machines differ.",
        "Only the database's clock and relative lifetimes count.",
    ),
    "F20": Fault("A machine has an old list of keys.", "It claims nothing that it cannot read and changes nothing."),
    "F21": Fault(
        "The schema changes under the old release; the change is killed.",
        "Both releases work together; the change can be run again.",
    ),
    "F22": Fault(
        "A web process is restarted under open streams.",
        "They end in order, soon, and come back elsewhere.",
    ),
    "F23": Fault("Somebody disconnects during a refresh.", "What arrives is revoked and not kept."),
    "F24": Fault("One row cannot be processed.", "The others are not held up; it is put aside and shown."),
    "F25": Fault(
        "Processes on SQLite are killed and busy.",
        "The file stays sound; two machines are refused clearly.",
    ),
    "F26": Fault("It runs for a long time.", "Memory and open files stay flat."),
}


def fault(*ids: str) -> pytest.MarkDecorator:
    """Mark a test as the proof of what holds under these faults; an id that is not in the manifest is refused."""
    unknown = [one for one in ids if one not in FAULTS]
    if unknown or not ids:
        raise ValueError(f"not in the manifest: {', '.join(unknown) or 'no id given'}")
    return pytest.mark.fault(*ids)

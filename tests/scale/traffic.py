"""Programs that use a site without a pause while something happens to it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from .site import ask


@dataclass
class Traffic:
    """What was answered: statuses with how often, by address."""

    webs: list[str]
    token: str
    connections: Sequence[str]
    answered: dict[str, Counter[int]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def use(self, web: str) -> None:
        """Begin to use one more web process."""
        self.answered[web] = Counter()
        self._threads.append(threading.Thread(target=self._ask, args=(web,), daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        """End it, after the last answers."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        """How many answers there were so far."""
        return sum(counts.total() for counts in self.answered.values())

    def _ask(self, web: str) -> None:
        """Release a token without Django, and look at a connection with it."""
        while not self._over.is_set():
            for connection in self.connections:
                at = f"{web}/api/v1/connections/{connection}"
                self.answered[web][ask(f"{at}/token", method="POST", token=self.token, body={}).status] += 1
                self.answered[web][ask(f"{at}/status", token=self.token).status] += 1


@contextmanager
def traffic(webs: Sequence[str], *, token: str, connections: Sequence[str]) -> Iterator[Traffic]:
    """Use these web processes until the end."""
    flowing = Traffic([*webs], token, connections)
    for web in webs:
        flowing.use(web)
    try:
        yield flowing
    finally:
        flowing.stop()

"""Every place that holds sealed values: the columns of all models, and what registers itself besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from django.apps import apps
from django.db import OperationalError, connection, models, transaction

from audit.progress import Shown, in_silence
from oauthflow.protocol.errors import SecretUnreadableError

from .sealing import SealedTextField

_PAGE: Final = 500
_TRIES: Final = 3


class Held(NamedTuple):
    """What one row (or file) holds: sealed values in a fixed order, `""` where there is none."""

    key: Any
    values: tuple[str, ...]


class Change(NamedTuple):
    """What to write in place of what was read."""

    held: Held
    values: tuple[str, ...]


class SealedStore(Protocol):
    """Somewhere sealed values are kept. `register_store` makes the rotation of keys know one besides the models."""

    name: str

    def size(self) -> int:
        """Return about how many rows there are, for the progress bar."""

    def rows(self) -> Iterator[Held]:
        """Yield what is there; rows may come and go meanwhile."""

    def replace(self, changes: Sequence[Change]) -> int:
        """Write each change whose row still holds exactly what was read; return how many were written."""

    def unopened(self, shown: Shown = in_silence) -> Iterator[str]:
        """Yield where a value stands that does not open there."""


_registered: Final[dict[str, SealedStore]] = {}


def register_store(store: SealedStore) -> None:
    """Include a store in the rotation of keys and in the check at start; call it in `AppConfig.ready`."""
    _registered[store.name] = store


def all_stores() -> list[SealedStore]:
    """Return the columns of every installed model that has any, then what was registered."""
    tables: list[SealedStore] = [
        ModelStore(model, fields)
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy and (fields := _sealed_fields(model))
    ]
    return tables + list(_registered.values())


class ModelStore:
    """The sealed columns of one model."""

    def __init__(self, model: type[models.Model], fields: Sequence[SealedTextField]) -> None:
        self.name = model._meta.label
        self._model, self._fields = model, fields
        self._rows = model._base_manager.order_by("pk")

    def size(self) -> int:
        return self._rows.count()

    def rows(self) -> Iterator[Held]:
        columns = self._rows.values_list("pk", *(field.attname for field in self._fields))
        page = list(columns[:_PAGE])
        while page:
            yield from (Held(key, tuple(map(str.__str__, values))) for key, *values in page)
            page = list(columns.filter(pk__gt=page[-1][0])[:_PAGE])

    def replace(self, changes: Sequence[Change]) -> int:
        parameters: list[list[Any]] = [
            [*change.values, self._database_key(change.held.key), *change.held.values] for change in changes
        ]
        for remaining in reversed(range(_TRIES)):
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.executemany(self._statement(), parameters)
                    return int(cursor.rowcount)
            except OperationalError:  # a deadlock with somebody who takes several of these rows in another order
                if not remaining:
                    raise
        return 0

    def unopened(self, shown: Shown = in_silence) -> Iterator[str]:
        for row in shown(self._ascending(), self.size(), f"Opening {self.name}"):
            for field in self._fields:
                try:
                    getattr(row, field.name).reveal()
                except SecretUnreadableError:
                    yield f"{self.name}.{field.name} {row.pk}"

    def _ascending(self) -> Iterator[models.Model]:
        """A page at a time, so that no cursor stays open while rows are written, or when the caller stops."""
        bound = {name for field in self._fields for name in field.bound_to}
        rows = self._rows.only("pk", *bound, *(field.name for field in self._fields))
        page = list(rows[:_PAGE])
        while page:
            yield from page
            page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE])

    def _statement(self) -> str:
        """All columns at once: a row has several, and each version of a long one is stored anew."""
        quote = connection.ops.quote_name
        columns = [quote(str(field.column)) for field in self._fields]
        values = ", ".join(f"{column} = %s" for column in columns)
        unchanged = " AND ".join(f"{column} = %s" for column in columns)
        key = quote(str(self._primary_key.column))
        return " ".join(
            ("UPDATE", quote(self._model._meta.db_table), "SET", values, "WHERE", key, "= %s AND", unchanged)
        )

    def _database_key(self, key: object) -> Any:
        return self._primary_key.get_db_prep_value(key, connection=connection)

    @property
    def _primary_key(self) -> models.Field[Any, Any]:
        return self._model._meta.pk


def _sealed_fields(model: type[models.Model]) -> list[SealedTextField]:
    return [field for field in model._meta.local_concrete_fields if isinstance(field, SealedTextField)]

"""Columns that hold secrets: encrypted with the keys of django-encrypted-model-fields, bound to their row and column.

The package's own field returns the ciphertext when the key is wrong, opens a value that was copied from another row,
and decrypts whatever is typed into a form. This subclass does none of that: it keeps the ciphertext, opens it only on
`.reveal()`, and checks that the value was sealed for exactly this model, column and row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import encrypted_model_fields.fields as encrypted
from cryptography.fernet import InvalidToken
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

_END_OF_CONTEXT = "\x1f"


class Ciphertext(str):
    """Text that is encrypted already; what the database gives and takes. Printing it gives no secret away."""

    __slots__ = ()


def seal(secret: Secret, *, context: str) -> Ciphertext:
    """Encrypt with the first key, together with the context in which alone it may be opened."""
    text = f"{context}{_END_OF_CONTEXT}{secret.reveal()}"
    return Ciphertext(encrypted.CRYPTER.encrypt(text.encode()).decode("ascii"))


def unseal(ciphertext: str, *, context: str) -> Secret:
    """Open a value with whichever key fits.

    Raises:
        SecretUnreadableError: No key opens it, or it was sealed for another row or column. Nothing is changed.
    """
    try:
        text = encrypted.CRYPTER.decrypt(ciphertext.encode()).decode()
    except (InvalidToken, UnicodeError) as error:
        raise SecretUnreadableError(f"no configured key opens {_place(context)}") from error
    found, separator, secret = text.partition(_END_OF_CONTEXT)
    if not separator or found != context:
        raise SecretUnreadableError(f"the value in {_place(context)} was sealed for another place")
    return Secret(secret)


def _place(context: str) -> str:
    return " ".join(context.split("\n")[:3])


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """What a model instance shows of a sealed column: whether something is there, and `.reveal()`."""

    ciphertext: Ciphertext
    context: str

    def reveal(self) -> Secret:
        """Open it; an empty column gives an empty Secret.

        Raises:
            SecretUnreadableError: It does not open here.
        """
        return unseal(self.ciphertext, context=self.context) if self.ciphertext else Secret("")

    def __bool__(self) -> bool:
        return bool(self.ciphertext)

    def __repr__(self) -> str:
        return "***" if self.ciphertext else "(empty)"

    __str__ = __repr__


class SealedAttribute(DeferredAttribute):
    """Wraps what the column holds on reading and seals a Secret on assignment."""

    field: SealedTextField

    def __get__(self, instance: models.Model | None, cls: type[models.Model] | None = None) -> Any:
        if instance is None:
            return self
        held = super().__get__(instance, cls)
        return Sealed(held, self.field.context_of(instance))

    def __set__(self, instance: models.Model, value: object) -> None:
        instance.__dict__[self.field.attname] = self._ciphertext(instance, value)

    def _ciphertext(self, instance: models.Model, value: object) -> Ciphertext:
        if isinstance(value, Secret):
            return seal(value, context=self.field.context_of(instance)) if value else Ciphertext("")
        if isinstance(value, Sealed):
            return value.ciphertext  # as refresh_from_db() does; a value of another row will not open here
        if isinstance(value, Ciphertext):
            return value
        if value == "" or value is None:
            return Ciphertext("")
        raise TypeError(f"{self.field.name} takes a Secret, not {type(value).__name__}")


if TYPE_CHECKING:
    _EncryptedTextField = encrypted.EncryptedTextField[Secret | Ciphertext | str | None, Sealed]
else:
    _EncryptedTextField = encrypted.EncryptedTextField


class SealedTextField(_EncryptedTextField):
    """A write-only secret of one row.

    Args:
        bound_to: Further columns of the row that the value is bound to, for example a generation: a value that
            belongs to an earlier generation then does not open.

    The model needs a primary key that is known before the insert. The field has no form field.
    """

    descriptor_class = SealedAttribute

    def __init__(self, *args: Any, bound_to: tuple[str, ...] = (), **kwargs: Any) -> None:
        self.bound_to = bound_to
        kwargs.setdefault("blank", True)
        kwargs.setdefault("default", "")
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("editable", None)
        if self.bound_to:
            kwargs["bound_to"] = self.bound_to
        return name, path, args, kwargs

    def context_of(self, instance: models.Model, **changed: object) -> str:
        """Return the place that a value of this column in this row is bound to.

        Args:
            changed: New values of `bound_to` columns, for a value that is written together with them.
        """
        return self._place + self.row_of(instance, **changed)

    def row_of(self, instance: models.Model, **changed: object) -> str:
        """Return what the places of all columns of a row with the same `bound_to` end with."""
        bound = [f"\n{name}={changed[name] if name in changed else getattr(instance, name)}" for name in self.bound_to]
        return f"\n{instance.pk}{''.join(bound)}"

    @cached_property
    def _place(self) -> str:
        return f"{self.model._meta.label_lower}\n{self.column}"

    def seal_for(self, row: str, secret: Secret) -> Ciphertext:
        """Seal for a queryset `update()` of what `row_of` returned; `""` stays `""`."""
        return seal(secret, context=self._place + row) if secret else Ciphertext("")

    def to_python(self, value: Any) -> Any:
        if isinstance(value, Sealed):
            return value.ciphertext
        return Ciphertext(value) if isinstance(value, str) else value

    def from_db_value(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return Ciphertext(value or "")

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Sealed):
            return str.__str__(value.ciphertext)
        if isinstance(value, Ciphertext):
            return str.__str__(value)
        if value == "" or value is None or hasattr(value, "resolve_expression"):
            return value if value is not None else ""
        raise TypeError(f"{self.name} takes sealed values only")

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if hasattr(value, "as_sql"):
            return value
        return self.get_db_prep_value(self.get_prep_value(value), connection=connection, prepared=True)

    def value_to_string(self, obj: models.Model) -> str:
        return str.__str__(self.value_from_object(obj).ciphertext)

    def formfield(self, *args: Any, **kwargs: Any) -> None:
        return None

from typing import Any, TypeVar

from cryptography.fernet import MultiFernet
from django.db import models

CRYPTER: MultiFernet

_ST = TypeVar("_ST", contravariant=True)
_GT = TypeVar("_GT", covariant=True)

class EncryptedTextField(models.TextField[_ST, _GT]):
    def get_db_prep_save(self, value: Any, connection: Any) -> Any: ...

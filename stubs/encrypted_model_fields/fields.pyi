from typing import Any

from cryptography.fernet import MultiFernet
from django.db import models

CRYPTER: MultiFernet

class EncryptedTextField(models.TextField[Any, Any]):
    def get_db_prep_save(self, value: Any, connection: Any) -> Any: ...

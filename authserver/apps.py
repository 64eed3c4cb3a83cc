from __future__ import annotations

from django.apps import AppConfig


class AuthserverConfig(AppConfig):
    name = "authserver"
    verbose_name = "Authorization server"

    def ready(self) -> None:
        from connections.impact import register_clients
        from oauthflow.acting_programs import tell_of_programs

        from . import changes, upstream_ended
        from .grants import names_of, programs_of
        from .models.token_family import clients_acting_for

        changes.connect_receivers()
        upstream_ended.connect_receivers()
        tell_of_programs("authserver", programs_of, names_of)
        register_clients("authserver", clients_acting_for)

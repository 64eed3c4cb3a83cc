"""What this product uses of graphene-django, which carries no types."""

from typing import Any

from graphene import Field, ObjectType

class DjangoObjectType(ObjectType):
    @classmethod
    def get_queryset(cls, queryset: Any, info: Any) -> Any: ...

class DjangoConnectionField(Field):
    @classmethod
    def resolve_connection(
        cls, connection: Any, args: dict[str, Any], iterable: Any, max_limit: int | None = None
    ) -> Any: ...

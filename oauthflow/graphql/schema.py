"""The GraphQL schema. Public contract, section 5."""

from __future__ import annotations

import graphene

from .mutations import Mutation
from .queries import Query
from .subscriptions import Subscription

schema = graphene.Schema(query=Query, mutation=Mutation, subscription=Subscription)

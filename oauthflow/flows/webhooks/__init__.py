"""Webhooks: who may hear what, and how it gets there."""

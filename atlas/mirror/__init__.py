"""Carries events out: destinations, relays, webhooks, Pub/Sub."""

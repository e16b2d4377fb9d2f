"""Supabase: supervised channels, tokens, keys, sessions, tasks over REST."""

"""A stand-in to the embedded Postgres that speaks what Supabase's clients speak: Realtime, REST and a login.

For the demo on one machine and for the tests, never for production: it is small, and knows only the calls that Atlas's own
clients make. Realtime behaves as the real server was recorded, each of its conduct a switch (conduct.py).
"""

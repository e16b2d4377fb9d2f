"""Atlas: an architect agent as a service on Supabase."""

__version__ = "0.5.0.dev0"

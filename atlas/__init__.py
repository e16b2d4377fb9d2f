"""Atlas: an architect agent as a service on Supabase."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("atlas-architect")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0.0.0"

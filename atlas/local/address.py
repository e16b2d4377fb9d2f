"""Where Postgres is: DATABASE_URL, else the embedded one."""

from __future__ import annotations

from atlas.errors import DatabaseDown, SettingsError, UsageError
from atlas.settings import Settings


def database_url(settings: Settings, role: str = "atlas_worker") -> str:
    """DATABASE_URL, else the embedded Postgres of ATLAS_HOME; raises DatabaseDown where there is neither."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    if settings.supabase_url is not None:
        if role == "postgres":
            raise UsageError("this is for operators, and a login does not open it",
                             "set DATABASE_URL to the project's Postgres, or ask an operator")  # fmt: skip
        raise SettingsError(["SUPABASE_URL is set without DATABASE_URL: set DATABASE_URL to the project's Postgres"])
    from atlas.local.postgres import EmbeddedPostgres  # imported here: the bare wheel has no embedded Postgres

    embedded = EmbeddedPostgres(settings.home)
    cluster = embedded.load()
    if cluster is None or not embedded.running():
        raise DatabaseDown("the embedded Postgres is down", "run `atlas up`, or set DATABASE_URL")
    return cluster.url(role)

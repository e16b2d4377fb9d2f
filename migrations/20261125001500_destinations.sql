-- Destinations: what each wants, and whether it can be reached. Its breaker is shared by the fleet, and seen in Studio.

-- What a destination wants: {"msg_type", "status", "sender", "kind"}, each a text or a list of texts.
create function atlas.is_filter(filter jsonb) returns boolean
language sql immutable set search_path = ''
as $$
  select jsonb_typeof(filter) = 'object' and not exists (
    select from jsonb_each(case jsonb_typeof(filter) when 'object' then filter else '{}' end) f
    where f.key not in ('msg_type', 'status', 'sender', 'kind')
      or not (jsonb_typeof(f.value) = 'string' or (jsonb_typeof(f.value) = 'array' and not exists (
        select from jsonb_array_elements(case jsonb_typeof(f.value) when 'array' then f.value else '[]' end) e
        where jsonb_typeof(e) <> 'string'))))
$$;
comment on function atlas.is_filter(jsonb) is 'Whether a destination''s filter has known fields and texts only.';

create function atlas.wants(wanted jsonb, value text) returns boolean
language sql immutable set search_path = ''
as $$
  select wanted is null or coalesce(wanted ? value, false)
$$;
comment on function atlas.wants(jsonb, text) is 'Whether one field of a filter lets a value through: absent lets all through.';

create function atlas.matches(filter jsonb, event_kind text, data jsonb, sender text) returns boolean
language sql immutable set search_path = ''
as $$
  select atlas.wants(filter -> 'msg_type', data ->> 'msg_type')
    and atlas.wants(filter -> 'status', data #>> '{metadata,status}')
    and atlas.wants(filter -> 'sender', sender)
    and case when filter ? 'kind'
        then atlas.wants(filter -> 'kind', event_kind) or atlas.wants(filter -> 'kind', data #>> '{metadata,kind}')
        -- who names no kind gets what is of interest to everybody
        else event_kind in ('message', 'audit_seal', 'budget.warning', 'budget.spent') end
$$;
comment on function atlas.matches(jsonb, text, jsonb, text) is
  'Whether a destination wants an event. kind: message, audit_seal, notification, progress, export,
budget.warning, budget.spent, or a message''s metadata.kind.';

create table atlas.destination (
  id uuid primary key default atlas.new_id(),
  name text not null unique,
  kind text not null check (kind in ('pubsub', 'webhook')),
  target text not null,
  secret_name text,
  filter jsonb not null default '{}',
  enabled boolean not null default true,
  events_since timestamptz not null default now(),
  created_at timestamptz not null default now(),
  failures integer not null default 0 check (failures >= 0),
  open_until timestamptz,
  last_error text,
  last_sent_at timestamptz,
  adopted_at timestamptz,
  constraint filter_is_known check (atlas.is_filter(filter)),
  constraint target_fits_kind check (case kind when 'pubsub' then target ~ '^projects/[^/\s]+/topics/[^/\s]+$'
    else target ~ '^https?://[^/\s@]+(/\S*)?$' end),
  constraint webhooks_are_signed check (kind <> 'webhook' or secret_name is not null),
  constraint secret_is_a_name check (secret_name ~ '^ATLAS_WEBHOOK_SECRET(_[A-Z0-9_]+)?$')
);
comment on table atlas.destination is 'Where replies go: a Pub/Sub topic or a signed webhook.';
comment on column atlas.destination.id is 'Its id.';
comment on column atlas.destination.name is 'What people call it.';
comment on column atlas.destination.kind is 'pubsub or webhook.';
comment on column atlas.destination.target is 'projects/<project>/topics/<topic>, or an https URL.';
comment on column atlas.destination.secret_name is
  'Which setting of the mirror signs: ATLAS_WEBHOOK_SECRET, or ATLAS_WEBHOOK_SECRET_<NAME>; never the secret itself.';
comment on column atlas.destination.filter is
  'Which events: msg_type, status, sender, kind, each a text or a list of them; {} means all replies and seals.';
comment on column atlas.destination.enabled is 'False: nothing is sent there.';
comment on column atlas.destination.events_since is
  'Events from then on go there: it begins with what is new. An earlier time at its insert sends what was kept as well.';
comment on column atlas.destination.created_at is 'When the row was written.';
comment on column atlas.destination.failures is 'Failures in a row that were the destination''s; three open its breaker.';
comment on column atlas.destination.open_until is 'Until then nothing is sent there; then one row is tried.';
comment on column atlas.destination.last_error is 'What its last failure said.';
comment on column atlas.destination.last_sent_at is 'When something last arrived there.';
comment on column atlas.destination.adopted_at is 'Since when it has all events that were kept for it.';
comment on constraint filter_is_known on atlas.destination is 'A filter has known fields and texts only.';
comment on constraint target_fits_kind on atlas.destination is 'A topic for Pub/Sub, a URL for a webhook.';
comment on constraint webhooks_are_signed on atlas.destination is 'A webhook names the secret that signs it.';
comment on constraint secret_is_a_name on atlas.destination is 'The name of a setting, never the secret itself.';
alter table atlas.destination enable row level security;
grant select, insert, update, delete on atlas.destination to service_role;

create function atlas.list_destinations() returns table (id uuid, name text, kind text, target text, secret_name text)
language sql stable security definer set search_path = ''
as $$
  select d.id, d.name, d.kind, d.target, d.secret_name from atlas.destination d where d.enabled order by d.created_at, d.id
$$;
comment on function atlas.list_destinations() is 'The enabled destinations, for the mirror.';
grant execute on function atlas.list_destinations() to service_role, atlas_worker;

-- The topic that a mirror's settings name. An operator who disables it in Studio is obeyed.
create function atlas.provide_topic(p_target text) returns uuid
language sql security definer set search_path = ''
as $$
  insert into atlas.destination as d (name, kind, target) values ('pubsub', 'pubsub', p_target)
  on conflict (name) do update set target = excluded.target where d.kind = 'pubsub' and d.target <> excluded.target;
  select d.id from atlas.destination d where d.name = 'pubsub'
$$;
comment on function atlas.provide_topic(text) is 'Makes the destination "pubsub" of a mirror''s PUBSUB_PROJECT_ID and PUBSUB_TOPIC_OUT.';
grant execute on function atlas.provide_topic(text) to service_role, atlas_worker;

create function atlas.record_destination(p_destination uuid, p_ok boolean, p_error text default null, p_seconds double precision default 0)
returns timestamptz
language plpgsql security definer set search_path = ''
as $$
declare
  until timestamptz;
begin
  if p_ok then
    update atlas.destination d set failures = 0, open_until = null, last_error = null, last_sent_at = now()
    where d.id = p_destination and (d.failures > 0 or d.last_sent_at is null or d.last_sent_at < now() - interval '10 seconds');
    return null;
  end if;
  update atlas.destination d set failures = d.failures + 1, last_error = left(p_error, 500),
    open_until = atlas.breaker_open_until(d.failures + 1, 1, 20, p_seconds)
  where d.id = p_destination returning d.open_until into until;
  return until;
end
$$;
comment on function atlas.record_destination(uuid, boolean, text, double precision) is
  'Notes that a destination answered, or failed; the third failure in a row opens its breaker. Answers until when it is open.';
grant execute on function atlas.record_destination(uuid, boolean, text, double precision) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

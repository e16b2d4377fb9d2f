-- The outbox: what must reach Pub/Sub and webhooks, a row an event and destination, written in the event's transaction.
--
-- What was written while there was no destination at all is kept without one, but for the beginnings of tasks, and goes to those that
-- come meanwhile (adopt_outbox). An event is a row of architect_out, or a seal, a notification, a sign of progress, an export; its position orders
-- it, the same for every destination and at every replay.

create table atlas.outbox (
  id bigint generated always as identity primary key,
  event_id uuid not null,
  event_kind text not null default 'message'
    check (event_kind in ('message', 'audit_seal', 'notification', 'progress', 'export', 'budget.warning', 'budget.spent')),
  destination_id uuid references atlas.destination (id) on delete cascade,
  task_id uuid,
  out_id bigint references public.architect_out (id),
  payload jsonb,
  position bigint not null,
  state text not null default 'pending' check (state in ('pending', 'sent', 'dead', 'skipped')),
  rejections integer not null default 0 check (rejections >= 0),
  lease_owner uuid,
  lease_expires_at timestamptz,
  run_after timestamptz not null default now(),
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  last_error text,
  constraint outbox_once unique nulls not distinct (event_id, destination_id),
  constraint message_has_its_place check (out_id is null or position = out_id),
  check ((out_id is null) <> (payload is null)),
  check ((state = 'sent') = (sent_at is not null)),
  check ((lease_owner is null) = (lease_expires_at is null))
);
create index outbox_pending on atlas.outbox (destination_id, position) where state = 'pending';
create index outbox_task on atlas.outbox (task_id, destination_id, position) where state in ('pending', 'dead');
create index outbox_dead on atlas.outbox (id) where state = 'dead';
create index outbox_done on atlas.outbox (created_at) where state in ('sent', 'skipped');
comment on table atlas.outbox is 'What must leave: one row an event and destination, written in the event''s transaction.';
comment on column atlas.outbox.id is 'Its id.';
comment on column atlas.outbox.event_id is 'The event, the same for every destination; consumers dedupe on it.';
comment on column atlas.outbox.event_kind is 'message (a row of architect_out), audit_seal, notification, progress, export, budget.warning or budget.spent.';
comment on column atlas.outbox.task_id is 'The task it belongs to.';
comment on column atlas.outbox.out_id is 'The row of architect_out.';
comment on column atlas.outbox.payload is 'What is sent.';
comment on column atlas.outbox.state is 'pending, sent, dead (three rejections), or skipped by an operator.';
comment on column atlas.outbox.rejections is 'Times its receiver refused it; three make it dead.';
comment on column atlas.outbox.lease_owner is 'Who sends it now.';
comment on column atlas.outbox.lease_expires_at is 'Until when that lease holds.';
comment on column atlas.outbox.run_after is 'Not before this time.';
comment on column atlas.outbox.created_at is 'When the row was written.';
comment on column atlas.outbox.sent_at is 'When the destination confirmed it.';
comment on column atlas.outbox.last_error is 'What the last try said.';
comment on column atlas.outbox.destination_id is 'Where it goes; null: kept, since there was no destination.';
comment on column atlas.outbox.position is 'Its place in the order of events; a task''s events leave in this order.';
comment on constraint outbox_once on atlas.outbox is 'An event goes to a destination once.';
comment on constraint message_has_its_place on atlas.outbox is 'A message is ordered by its row in architect_out.';
alter table atlas.outbox enable row level security;
grant select on atlas.outbox to service_role;

-- Where an event goes: every enabled destination that wants it; null, once, where there is none at all.
create function atlas.routes(event_kind text, data jsonb, sender text) returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select d.id from atlas.destination d where d.enabled and atlas.matches(d.filter, routes.event_kind, routes.data, routes.sender)
  union all
  select null where not exists (select from atlas.destination d where d.enabled)
$$;
comment on function atlas.routes(text, jsonb, text) is 'The destinations of an event. Internal.';

create function atlas.fill_outbox() returns trigger
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  -- answers to commands and escalations wait for nothing, not even for a dead row of their task
  if exists (select from atlas.destination d where d.enabled) then
    insert into atlas.outbox (event_id, task_id, out_id, position, destination_id)
    select n.event_id, case when n.data ->> 'msg_type' <> 'control' then n.task_id end, n.id, n.id, d.id
    from new_rows n join atlas.destination d
      on d.enabled and atlas.matches(d.filter, 'message', n.data, coalesce(n.owner::text, 'service'))
    order by n.id;
  else
    insert into atlas.outbox (event_id, task_id, out_id, position)
    select n.event_id, case when n.data ->> 'msg_type' <> 'control' then n.task_id end, n.id, n.id
    from new_rows n
    -- that a task began is news only while it runs
    where n.data #>> '{metadata,status}' is distinct from 'in_progress' order by n.id;
  end if;
  return null;
end
$$;
comment on function atlas.fill_outbox() is 'Every row of architect_out leaves by the outbox.';

create trigger fill_outbox after insert on public.architect_out
  referencing new table as new_rows for each statement execute function atlas.fill_outbox();
comment on trigger fill_outbox on public.architect_out is 'Every row of architect_out leaves by the outbox.';

-- Any other event: what is no row of architect_out. Kept for nobody when no destination wants it.
create function atlas.emit(p_kind text, p_payload jsonb, p_task_id uuid default null, p_event_id uuid default atlas.new_id())
returns integer
language sql security definer set search_path = ''
as $$
  with sent as (
    insert into atlas.outbox (event_id, event_kind, task_id, payload, position, destination_id)
    select p_event_id, p_kind, p_task_id, p_payload, e.position, r
    from (select nextval('public.architect_out_id_seq') as position) e, atlas.routes(p_kind, p_payload, null) r
    where r is not null or p_kind = 'audit_seal'
    on conflict on constraint outbox_once do nothing
    returning 1
  )
  select count(*)::integer from sent
$$;
comment on function atlas.emit(text, jsonb, uuid, uuid) is 'Puts an event into the outbox; says for how many destinations. Internal.';

-- Kept rows are copied to each destination that comes while they are kept; position keeps the order, and trim_outbox ends the
-- keeping. A transaction that did not see the destination yet may commit a kept row later: so it is looked at for some minutes.
create function atlas.adopt_outbox(p_limit integer default 1000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  d atlas.destination;
  n integer;
  adopted integer := 0;
begin
  for d in
    select x.* from atlas.destination x
    where x.enabled and (x.adopted_at is null or x.adopted_at > now() - interval '10 minutes') order by x.created_at, x.id
  loop
    insert into atlas.outbox (event_id, event_kind, task_id, out_id, payload, position, created_at, destination_id)
    select k.event_id, k.event_kind, k.task_id, k.out_id, k.payload, k.position, k.created_at, d.id
    from atlas.outbox k left join public.architect_out m on m.id = k.out_id
    where k.destination_id is null and k.state = 'pending' and k.created_at >= d.events_since
      and atlas.matches(d.filter, k.event_kind, coalesce(k.payload, m.data), coalesce(m.owner::text, 'service'))
      and not exists (select from atlas.outbox c where c.event_id = k.event_id and c.destination_id = d.id)
    order by k.position limit p_limit
    on conflict on constraint outbox_once do nothing;
    get diagnostics n = row_count;
    adopted := adopted + n;
    if n = 0 and d.adopted_at is null then
      update atlas.destination x set adopted_at = now() where x.id = d.id;
    end if;
  end loop;
  return adopted;
end
$$;
comment on function atlas.adopt_outbox(integer) is
  'Copies what was kept for want of a destination to those that came since; says how many rows that made. Call it until it says 0.';
grant execute on function atlas.adopt_outbox(integer) to service_role, atlas_worker;

-- One that was switched off gets what was kept meanwhile.
create function atlas.adopt_again() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.adopted_at := null;
  return new;
end
$$;
comment on function atlas.adopt_again() is 'A destination that is enabled again gets the events that were kept.';

create trigger adopt_again before update of enabled on atlas.destination
  for each row when (new.enabled and not old.enabled) execute function atlas.adopt_again();
comment on trigger adopt_again on atlas.destination is 'A destination that is enabled again gets the events that were kept.';

revoke execute on all functions in schema atlas, rag from public;

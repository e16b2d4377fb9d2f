-- The mirror: each event to each destination, at least once, in order per task.
--
-- A row of atlas.outbox is one event for one destination. A relay leases rows of its destination, sends, and settles. What was
-- written while there was no destination at all is kept without one, and goes to those that come meanwhile (adopt_outbox). An
-- event is a row of architect_out, or a seal, a notification, a sign of progress, an export; its position orders it, the same
-- for every destination and at every replay.

alter table public.architect_out add column event_id uuid not null default gen_random_uuid();
comment on column public.architect_out.event_id is 'The same wherever this row is sent, and whenever it is sent again: dedupe on it.';
create unique index architect_out_event on public.architect_out (event_id);

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
        else event_kind in ('message', 'audit_seal') end
$$;
comment on function atlas.matches(jsonb, text, jsonb, text) is
  'Whether a destination wants an event. kind: message, audit_seal, notification, progress, export, or a message''s metadata.kind.';

update atlas.destination set secret_name = 'ATLAS_WEBHOOK_SECRET' where kind = 'webhook' and secret_name is null;
alter table atlas.destination
  add column failures integer not null default 0 check (failures >= 0),
  add column open_until timestamptz,
  add column last_error text,
  add column last_sent_at timestamptz,
  add column adopted_at timestamptz,
  add constraint filter_is_known check (atlas.is_filter(filter)),
  add constraint target_fits_kind check (case kind when 'pubsub' then target ~ '^projects/[^/\s]+/topics/[^/\s]+$'
    else target ~ '^https?://[^/\s@]+(/\S*)?$' end),
  add constraint webhooks_are_signed check (kind <> 'webhook' or secret_name is not null),
  add constraint secret_is_a_name check (secret_name ~ '^ATLAS_WEBHOOK_SECRET(_[A-Z0-9_]+)?$');
comment on column atlas.destination.target is 'projects/<project>/topics/<topic>, or an https URL.';
comment on column atlas.destination.secret_name is
  'Which setting of the mirror signs: ATLAS_WEBHOOK_SECRET, or ATLAS_WEBHOOK_SECRET_<NAME>; never the secret itself.';
comment on column atlas.destination.filter is
  'Which events: msg_type, status, sender, kind, each a text or a list of them; {} means all replies and seals.';
comment on column atlas.destination.failures is 'Failures in a row that were the destination''s; three open its breaker.';
comment on column atlas.destination.open_until is 'Until then nothing is sent there; then one row is tried.';
comment on column atlas.destination.last_error is 'What its last failure said.';
comment on column atlas.destination.adopted_at is 'Since when it has the events that were kept before it was there.';
comment on column atlas.destination.last_sent_at is 'When something last arrived there.';

alter table atlas.outbox
  drop constraint outbox_event_id_key,
  alter column event_id drop default,
  add column destination_id uuid references atlas.destination (id) on delete cascade,
  add column position bigint,
  drop constraint outbox_state_check,
  add constraint outbox_state_check check (state in ('pending', 'sent', 'dead', 'skipped')),
  drop constraint outbox_event_kind_check,
  add constraint outbox_event_kind_check
    check (event_kind in ('message', 'audit_seal', 'notification', 'progress', 'export'));
update atlas.outbox o set event_id = m.event_id from public.architect_out m where m.id = o.out_id;
update atlas.outbox o set position = coalesce(o.out_id, nextval('public.architect_out_id_seq'));
alter table atlas.outbox alter column position set not null;
alter table atlas.outbox
  add constraint outbox_once unique nulls not distinct (event_id, destination_id),
  add constraint message_has_its_place check (out_id is null or position = out_id);
comment on column atlas.outbox.event_id is 'The event, the same for every destination; consumers dedupe on it.';
comment on column atlas.outbox.destination_id is 'Where it goes; null: kept, since there was no destination.';
comment on column atlas.outbox.position is 'Its place in the order of events; a task''s events leave in this order.';
comment on column atlas.outbox.event_kind is 'message (a row of architect_out), audit_seal, notification, progress or export.';
comment on column atlas.outbox.state is 'pending, sent, dead (three rejections), or skipped by an operator.';
comment on table atlas.outbox is 'What must leave: one row an event and destination, written in the event''s transaction.';

drop index atlas.outbox_pending, atlas.outbox_task;
create index outbox_pending on atlas.outbox (destination_id, position) where state = 'pending';
create index outbox_task on atlas.outbox (task_id, destination_id, position) where state in ('pending', 'dead');
create index outbox_dead on atlas.outbox (id) where state = 'dead';
create index outbox_done on atlas.outbox (created_at) where state in ('sent', 'skipped');

-- Where an event goes: every enabled destination that wants it; null, once, where there is none at all.
create function atlas.routes(event_kind text, data jsonb, sender text) returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select d.id from atlas.destination d where d.enabled and atlas.matches(d.filter, routes.event_kind, routes.data, routes.sender)
  union all
  select null where not exists (select from atlas.destination d where d.enabled)
$$;
comment on function atlas.routes(text, jsonb, text) is 'The destinations of an event. Internal.';

create or replace function atlas.fill_outbox() returns trigger
language plpgsql security definer set search_path = ''
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
    from new_rows n order by n.id;
  end if;
  return null;
end
$$;

-- Any other event: what is no row of architect_out. Kept for nobody when no destination wants it.
create function atlas.emit(p_kind text, p_payload jsonb, p_task_id uuid default null, p_event_id uuid default gen_random_uuid())
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

create or replace function atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
  -- what is sealed must be what is there: a caller's word is not enough
  if not exists (select from atlas.audit_digest() d where (d.upto, d.rows, d.digest) = (p_upto, p_rows, p_digest)
                 and d.prev_mac is not distinct from p_prev_mac) then
    raise exception using errcode = 'AT005', message = 'seal_audit: this is not what audit_digest() says now',
      hint = 'take the digest and seal it in one transaction, repeatable read';
  end if;
  insert into atlas.audit_checkpoint (upto, rows, digest, prev_mac, mac)
  values (p_upto, p_rows, p_digest, p_prev_mac, p_mac);
  perform atlas.emit('audit_seal', jsonb_build_object('upto', p_upto::text, 'rows', p_rows,
    'digest', encode(p_digest, 'hex'), 'mac', encode(p_mac, 'hex'), 'prev_mac', encode(p_prev_mac, 'hex')));
end
$$;

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
    where k.destination_id is null and k.state = 'pending'
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

-- One that was switched off gets what was kept meanwhile.
create function atlas.adopt_again() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.adopted_at := null;
  return new;
end
$$;
comment on function atlas.adopt_again() is 'A destination that is enabled again takes kept events up.';
create trigger adopt_again before update of enabled on atlas.destination
  for each row when (new.enabled and not old.enabled) execute function atlas.adopt_again();

create function atlas.list_destinations() returns table (id uuid, name text, kind text, target text, secret_name text)
language sql stable security definer set search_path = ''
as $$
  select d.id, d.name, d.kind, d.target, d.secret_name from atlas.destination d where d.enabled order by d.created_at, d.id
$$;
comment on function atlas.list_destinations() is 'The enabled destinations, for the mirror.';

-- The topic that a mirror's settings name. An operator who disables it in Studio is obeyed.
create function atlas.provide_topic(p_target text) returns uuid
language sql security definer set search_path = ''
as $$
  insert into atlas.destination as d (name, kind, target) values ('pubsub', 'pubsub', p_target)
  on conflict (name) do update set target = excluded.target where d.kind = 'pubsub' and d.target <> excluded.target;
  select d.id from atlas.destination d where d.name = 'pubsub'
$$;
comment on function atlas.provide_topic(text) is 'Makes the destination "pubsub" of a mirror''s PUBSUB_PROJECT_ID and PUBSUB_TOPIC_OUT.';

drop function atlas.claim_outbox(uuid, integer, interval);
create function atlas.claim_outbox(p_lease_id uuid, p_destination uuid, p_limit integer, p_lease interval)
returns table (id bigint, event_id uuid, event_kind text, task_id uuid, ordering_key text, payload jsonb, rejections integer,
  sender_key text, created_at timestamptz)
language plpgsql security definer set search_path = ''
as $$
declare
  d atlas.destination;
begin
  select x.* into d from atlas.destination x where x.id = p_destination and x.enabled;
  if not found or d.open_until > now() then
    return;
  end if;
  return query
  with due as materialized (
    select o.id from atlas.outbox o
    where o.destination_id = p_destination and o.state = 'pending' and o.run_after <= now()
      and coalesce(o.lease_expires_at, '-infinity') <= now()
      -- in order per task: nothing unsent before it, unless this same claim may take that too
      and (select true from atlas.outbox e
           where e.task_id = o.task_id and e.destination_id = o.destination_id and e.position < o.position
             and e.state in ('pending', 'dead')
             and (e.state = 'dead' or e.run_after > now() or coalesce(e.lease_expires_at, '-infinity') > now())
           limit 1) is null
      -- nor anything that was kept, and is yet to be copied to this destination
      and (select true from atlas.outbox k left join public.architect_out m on m.id = k.out_id
           where k.task_id = o.task_id and k.destination_id is null and k.position < o.position and k.state = 'pending'
             and atlas.matches(d.filter, k.event_kind, coalesce(k.payload, m.data), coalesce(m.owner::text, 'service'))
             and not exists (select from atlas.outbox c where c.event_id = k.event_id and c.destination_id = p_destination)
           limit 1) is null
    order by o.position limit case when d.failures >= 3 then 200 else p_limit end
  ),
  -- after failures one row is tried, and not all of them: the one that was not tried for longest
  tried as materialized (
    select due.id from due join atlas.outbox o on o.id = due.id
    where d.failures < 3 or (
      select true from atlas.outbox e where e.task_id = o.task_id and e.destination_id = o.destination_id
        and e.position < o.position and e.state in ('pending', 'dead') limit 1) is null
    order by case when d.failures >= 3 then o.run_after end, o.position limit case when d.failures >= 3 then 1 else p_limit end
  ),
  held as materialized (
    select o.id, o.task_id, o.position from atlas.outbox o
    where o.id = any (array(select tried.id from tried)) and o.state = 'pending'
      and coalesce(o.lease_expires_at, '-infinity') <= now()
    order by o.id for no key update skip locked
  ),
  -- a row that another relay holds keeps back the later rows of its task
  ready as materialized (
    select h.id from held h
    where (select true from atlas.outbox e
           where e.task_id = h.task_id and e.destination_id = p_destination and e.position < h.position
             and e.state in ('pending', 'dead') and e.id <> all (array(select held.id from held)) limit 1) is null
  ),
  claimed as (
    update atlas.outbox o set lease_id = p_lease_id, lease_expires_at = now() + p_lease
    where o.id = any (array(select ready.id from ready))
    returning o.id, o.event_id, o.event_kind, o.task_id, o.payload, o.rejections, o.out_id, o.position, o.created_at
  )
  select c.id, c.event_id, c.event_kind, c.task_id, coalesce(c.task_id::text, m.task_id::text, c.event_kind),
    -- a router finds its own address in what it gets
    case when i.data #>> '{metadata,reply_to}' is null then coalesce(c.payload, m.data)
         else jsonb_set(coalesce(c.payload, m.data), '{metadata,reply_to}', i.data #> '{metadata,reply_to}') end,
    c.rejections, coalesce(t.sender_key, m.owner::text, 'service'), c.created_at
  from claimed c
  left join public.architect_out m on m.id = c.out_id
  left join atlas.task t on t.id = coalesce(c.task_id, m.task_id)
  left join public.architect_in i on i.id = t.in_id and c.event_kind in ('message', 'progress')
  order by c.position;
end
$$;
comment on function atlas.claim_outbox(uuid, uuid, integer, interval) is
  'Leases pending rows of a destination to a relay, in order per task; a dead or held row keeps back the later ones of its task.';

drop function atlas.settle_outbox(uuid, bigint[], jsonb, bigint[]);
create function atlas.settle_outbox(p_lease_id uuid, p_sent bigint[], p_rejected jsonb default '[]', p_failed jsonb default '[]',
  p_released bigint[] default '{}') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  settled integer;
  item record;
  was record;
begin
  update atlas.outbox o set state = 'sent', sent_at = now(), lease_id = null, lease_expires_at = null, last_error = null
  where o.id = any (p_sent) and o.lease_id = p_lease_id and o.state = 'pending';
  get diagnostics settled = row_count;
  update atlas.outbox o set lease_id = null, lease_expires_at = null
  where o.id = any (p_released) and o.lease_id = p_lease_id and o.state = 'pending';
  -- the destination's trouble, not the row's: it waits, so that another row is tried meanwhile
  update atlas.outbox o set lease_id = null, lease_expires_at = null, last_error = left(f.error, 500),
    run_after = now() + make_interval(secs => coalesce(f.seconds, 0))
  from jsonb_to_recordset(p_failed) as f (id bigint, error text, seconds double precision)
  where o.id = f.id and o.lease_id = p_lease_id and o.state = 'pending';
  for item in
    select r.id, left(r.error, 500) as error from jsonb_to_recordset(p_rejected) as r (id bigint, error text) order by r.id
  loop
    -- a sign of progress is worth no second try
    update atlas.outbox o set rejections = o.rejections + 1, last_error = item.error, lease_id = null, lease_expires_at = null,
      state = case when o.event_kind = 'progress' then 'skipped' when o.rejections >= 2 then 'dead' else 'pending' end,
      run_after = now() + random() * 2 ^ o.rejections * interval '1 second'
    where o.id = item.id and o.lease_id = p_lease_id and o.state = 'pending'
    returning o.state, o.event_kind, coalesce(o.task_id, (select m.task_id from public.architect_out m where m.id = o.out_id)) as task,
      (select atlas.control_command(m.data) ->> 'command' from public.architect_out m where m.id = o.out_id) as command,
      o.id, o.event_id, o.destination_id into was;
    continue when not found;
    settled := settled + 1;
    -- the third rejection makes it dead and says so once; an escalation never escalates
    if was.state = 'dead' then
      perform atlas.append_audit(null, 'settle_outbox', jsonb_build_object('id', was.id, 'event_id', was.event_id,
        'destination', was.destination_id, 'state', 'dead'));
      if was.task is not null and was.command is distinct from 'escalate' then
        perform atlas.escalate(was.task, 'outbox_dead', item.error);
      elsif was.task is null then
        insert into public.architect_out (data, task_id)
        values (jsonb_build_object('task_id', was.event_id, 'role', 'architect', 'msg_type', 'control',
            'content', jsonb_build_object('command', 'escalate', 'event_id', was.event_id, 'code', 'outbox_dead')::text,
            'metadata', jsonb_build_object('status', 'failed', 'schema_ver', 2, 'error',
              jsonb_build_object('code', 'outbox_dead', 'message', was.event_kind || ': ' || item.error))), was.event_id);
      end if;
    end if;
  end loop;
  return settled;
end
$$;
comment on function atlas.settle_outbox(uuid, bigint[], jsonb, jsonb, bigint[]) is
  'Settles leased rows: sent; rejected ([{"id","error"}]; the third makes a row dead); failed ([{"id","error","seconds"}], which
counts against no row); or released untouched.';

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
  -- full jitter, doubling from 1 s up to 20 s; what the destination asked for is the least
  update atlas.destination d set failures = d.failures + 1, last_error = left(p_error, 500),
    open_until = case when d.failures >= 2
      then now() + greatest(least(p_seconds, 300), random() * least(20, 2 ^ least(d.failures - 2, 5))) * interval '1 second' end
  where d.id = p_destination returning d.open_until into until;
  return until;
end
$$;
comment on function atlas.record_destination(uuid, boolean, text, double precision) is
  'Notes that a destination answered, or failed; the third failure in a row opens its breaker. Answers until when it is open.';

drop function atlas.retry_outbox(bigint[]);
create function atlas.retry_outbox(p_ids bigint[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  update atlas.outbox set state = 'pending', rejections = 0, run_after = now() where id = any (p_ids) and state = 'dead';
  get diagnostics n = row_count;
  perform atlas.append_audit(null, 'retry_outbox', jsonb_build_object('ids', p_ids, 'rows', n));
  return n;
end
$$;
comment on function atlas.retry_outbox(bigint[]) is 'Takes dead rows of the outbox up again; says how many.';

create function atlas.skip_outbox(p_ids bigint[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  update atlas.outbox set state = 'skipped', lease_id = null, lease_expires_at = null
  where id = any (p_ids) and destination_id is not null
    and (state = 'dead' or (state = 'pending' and coalesce(lease_expires_at, '-infinity') <= now()));
  get diagnostics n = row_count;
  perform atlas.append_audit(null, 'skip_outbox', jsonb_build_object('ids', p_ids, 'rows', n));
  return n;
end
$$;
comment on function atlas.skip_outbox(bigint[]) is
  'Gives rows of the outbox up, dead ones or such as nobody takes, so that later rows of their tasks leave; says how many.';

-- Sends messages again, with the event ids they had: those of a task, or of a span of time, to one destination or to all.
create function atlas.replay_outbox(p_task_id uuid default null, p_since timestamptz default null, p_until timestamptz default null,
  p_destination text default null) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  if p_task_id is null and p_since is null then
    raise exception using errcode = 'AT005', message = 'replay_outbox: nothing is named',
      hint = 'name a task, or since when messages are sent again';
  end if;
  if p_destination is not null and not exists (select from atlas.destination d where d.name = p_destination and d.enabled) then
    raise exception using errcode = 'AT004', message = format('no enabled destination %L', p_destination),
      hint = 'see select name, enabled from atlas.destination';
  end if;
  with message as (
    select m.* from public.architect_out m
    where (p_task_id is null or m.task_id = p_task_id) and (p_since is null or m.created_at >= p_since)
      and (p_until is null or m.created_at < p_until)
  ),
  again as (
    insert into atlas.outbox as o (event_id, task_id, out_id, position, destination_id)
    select m.event_id, case when m.data ->> 'msg_type' <> 'control' then m.task_id end, m.id, m.id, d.id
    from message m join atlas.destination d on d.enabled and (p_destination is null or d.name = p_destination)
      and atlas.matches(d.filter, 'message', m.data, coalesce(m.owner::text, 'service'))
    order by m.id
    -- what is pending is on its way, and what is dead needs an operator's word
    on conflict on constraint outbox_once do update set state = 'pending', sent_at = null, rejections = 0, run_after = now()
      where o.state in ('sent', 'skipped')
    returning 1
  )
  select count(*)::integer into n from again;
  perform atlas.append_audit(null, 'replay_outbox', jsonb_strip_nulls(jsonb_build_object('task_id', p_task_id, 'since', p_since,
    'until', p_until, 'destination', p_destination, 'rows', n)));
  return n;
end
$$;
comment on function atlas.replay_outbox(uuid, timestamptz, timestamptz, text) is
  'Sends messages again, with the same event ids: of a task, or of a span of time; says how many rows.';

create function atlas.trim_outbox(p_keep interval, p_limit integer default 5000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
  more integer;
begin
  delete from atlas.outbox o where o.id in (
    select t.id from atlas.outbox t where t.state in ('sent', 'skipped') and t.created_at < now() - p_keep
    order by t.created_at limit p_limit for update skip locked);
  get diagnostics n = row_count;
  delete from atlas.outbox o where o.id in (
    select t.id from atlas.outbox t where t.destination_id is null and t.state = 'pending' and t.created_at < now() - p_keep
    order by t.position limit p_limit for update skip locked);
  get diagnostics more = row_count;
  return n + more;
end
$$;
comment on function atlas.trim_outbox(interval, integer) is
  'Deletes rows that were sent or skipped, or kept for no destination, longer ago than that; says how many.';

create view atlas.outbox_status with (security_invoker = true) as
select d.name as destination, d.kind, d.enabled, d.failures, d.open_until, d.last_error, d.last_sent_at,
  count(o.id) filter (where o.state = 'pending') as pending, count(o.id) filter (where o.state = 'dead') as dead,
  min(o.created_at) filter (where o.state = 'pending') as oldest
from atlas.destination d left join atlas.outbox o on o.destination_id = d.id and o.state in ('pending', 'dead')
group by d.id
union all
select null, 'kept', false, 0, null, null, null, count(*), 0, min(o.created_at)
from atlas.outbox o where o.destination_id is null and o.state = 'pending' having count(*) > 0;
comment on view atlas.outbox_status is 'Each destination with its breaker and its backlog, and what is kept for want of one.';
comment on column atlas.outbox_status.destination is 'Its name; null for rows that are kept.';
comment on column atlas.outbox_status.kind is 'pubsub, webhook, or kept.';
comment on column atlas.outbox_status.enabled is 'False: nothing is sent there.';
comment on column atlas.outbox_status.failures is 'Failures in a row; three open the breaker.';
comment on column atlas.outbox_status.open_until is 'Until then nothing is sent there.';
comment on column atlas.outbox_status.last_error is 'What its last failure said.';
comment on column atlas.outbox_status.last_sent_at is 'When something last arrived there.';
comment on column atlas.outbox_status.pending is 'Rows that have yet to leave.';
comment on column atlas.outbox_status.dead is 'Rows that were rejected three times: `atlas dlq retry|skip --kind outbox`.';
comment on column atlas.outbox_status.oldest is 'When the oldest pending row was written.';

create or replace function atlas.queue_metrics() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    -- each count by the partial index of its kind
    'queued', (select count(*) from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat')
      + (select count(*) from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'control'),
    'waiting', (select count(*) from atlas.task t where t.state = 'queued' and t.wait_reason is not null),
    'running', (select count(*) from atlas.task t where t.state = 'running'),
    'dead_lettered', (select count(*) from atlas.task t where t.state = 'dead_lettered'),
    'outbox_dead', (select count(*) from atlas.outbox o where o.state = 'dead'),
    'outbox', (select coalesce(jsonb_agg(jsonb_build_object('destination', s.destination, 'pending', s.pending,
        'open', coalesce(s.open_until > now(), false),
        'oldest_seconds', coalesce(extract(epoch from now() - s.oldest), 0))), '[]')
      from atlas.outbox_status s where s.enabled or s.destination is null),
    'oldest_seconds', coalesce((select extract(epoch from now() - min(greatest(t.queued_at, t.run_after)))
      from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat'), 0),
    'paused', (select c.paused_at is not null from atlas.control c),
    'cache_flushed_at', (select c.cache_flushed_at from atlas.control c),
    'workers', (select count(*) from atlas.worker w where w.state <> 'stopped'
      and w.seen_at > now() - interval '2 minutes'),
    'budgets', atlas.get_budgets())
$$;

-- Signs of life of running tasks that somebody outside waits for.
alter table atlas.attempt add column progress_sent_at timestamptz;
comment on column atlas.attempt.progress_sent_at is 'When a sign of progress was last sent.';
create function atlas.report_progress(p_every interval) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  item record;
  n integer := 0;
begin
  if not exists (select from atlas.destination d where d.enabled and d.filter -> 'kind' ? 'progress') then
    return 0;
  end if;
  for item in
    update atlas.attempt a set progress_sent_at = now()
    where a.id in (
      select r.id from atlas.attempt r join atlas.task t on t.id = r.task_id and t.kind = 'chat'
      join public.architect_in i on i.id = t.in_id
      where r.state = 'running' and i.data #>> '{metadata,reply_to}' is not null
        and coalesce(r.progress_sent_at, r.started_at) < now() - p_every
      order by r.id for no key update of r skip locked)
    returning a.*
  loop
    n := n + atlas.emit('progress', jsonb_build_object('task_id', item.task_id, 'role', 'architect', 'msg_type', 'spec', 'content', '',
      'metadata', jsonb_build_object('tokens', 0, 'model', item.model, 'parent_id', null, 'status', 'in_progress', 'schema_ver', 2,
        'kind', 'progress', 'progress', jsonb_build_object('attempt', item.number,
          'seconds', extract(epoch from now() - item.started_at)::integer,
          'characters', (select coalesce(max(p."offset" + length(p.text)), 0) from atlas.reply_part p
                         where p.attempt_id = item.id and p.generation = item.generation)))), item.task_id);
  end loop;
  return n;
end
$$;
comment on function atlas.report_progress(interval) is
  'Emits how far running tasks with a reply_to have come, each at most once in so long; says how many.';

-- On Supabase realtime.messages is partitioned by day, and old partitions are dropped. On another Postgres it is a plain table
-- (atlas/local/supabase.sql) that nobody empties.
create function atlas.trim_messages(p_keep interval default interval '1 day') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer := 0;
begin
  if (select c.relkind from pg_class c where c.oid = to_regclass('realtime.messages')) = 'r'
     and has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m where m.inserted_at < now() at time zone 'UTC' - p_keep;
    get diagnostics n = row_count;
  end if;
  return n;
end
$$;
comment on function atlas.trim_messages(interval) is
  'Forgets Realtime messages that are older than that, where the table is a plain one; says how many.';

grant execute on function atlas.trim_messages(interval), atlas.list_destinations(), atlas.provide_topic(text), atlas.adopt_outbox(integer),
  atlas.claim_outbox(uuid, uuid, integer, interval), atlas.settle_outbox(uuid, bigint[], jsonb, jsonb, bigint[]),
  atlas.record_destination(uuid, boolean, text, double precision), atlas.trim_outbox(interval, integer),
  atlas.report_progress(interval) to service_role, atlas_worker;
grant execute on function atlas.retry_outbox(bigint[]), atlas.skip_outbox(bigint[]),
  atlas.replay_outbox(uuid, timestamptz, timestamptz, text) to service_role;
grant select on atlas.outbox_status to service_role;

alter function atlas.fill_outbox() set plan_cache_mode = force_generic_plan;
alter function atlas.fill_outbox() set enable_seqscan = off;
alter function atlas.claim_outbox(uuid, uuid, integer, interval) set plan_cache_mode = force_generic_plan;
alter function atlas.claim_outbox(uuid, uuid, integer, interval) set enable_seqscan = off;
alter function atlas.settle_outbox(uuid, bigint[], jsonb, jsonb, bigint[]) set plan_cache_mode = force_generic_plan;
alter function atlas.settle_outbox(uuid, bigint[], jsonb, jsonb, bigint[]) set enable_seqscan = off;

revoke execute on all functions in schema atlas, rag from public;

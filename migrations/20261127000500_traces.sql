-- For traces: what an attempt's calls have cost, and the producer's context in each event of a task.
--
-- locks: none

create function atlas.attempt_spend(p_attempt uuid)
returns table (call integer, usd numeric, known text)
language sql stable security definer set search_path = ''
as $$
  select s.call, s.usd, s.known
  from atlas.spend s
  where s.attempt_id = p_attempt and s.corrects is null and s.state = 'settled'
  order by s.call
$$;
comment on function atlas.attempt_spend(uuid) is 'What the settled calls of an attempt have cost, in US dollars. For workers.';
revoke execute on function atlas.attempt_spend(uuid) from public;
grant execute on function atlas.attempt_spend(uuid) to atlas_worker;

create function atlas.in_context(p_payload jsonb, p_asked jsonb) returns jsonb
language sql immutable parallel safe set search_path = ''
as $$
  -- a reply names the span that wrote it already
  select case when c.added = jsonb '{}' then p_payload
    else jsonb_set(p_payload, '{metadata}', coalesce(p_payload -> 'metadata', '{}') || c.added || jsonb '{"schema_ver": 2}') end
  from (
    select jsonb_strip_nulls(jsonb_build_object('reply_to', p_asked -> 'reply_to',
      'traceparent', case when p_payload #> '{metadata,traceparent}' is null then p_asked -> 'traceparent' end)) as added
  ) c
$$;
comment on function atlas.in_context(jsonb, jsonb) is
  'An event with the address to which its router sends it, and the trace that its producer began, by what the question''s metadata says.';
revoke execute on function atlas.in_context(jsonb, jsonb) from public;

create or replace function atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval)
returns table (id bigint, event_id uuid, event_kind text, task_id uuid, ordering_key text, payload jsonb, rejections integer,
  sender_key text, created_at timestamptz)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
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
             and k.created_at >= d.events_since and atlas.matches(d.filter, k.event_kind, coalesce(k.payload, m.data), coalesce(m.owner::text, 'service'))
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
    update atlas.outbox o set lease_owner = p_lease_owner, lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour')
    where o.id = any (array(select ready.id from ready))
    returning o.id, o.event_id, o.event_kind, o.task_id, o.payload, o.rejections, o.out_id, o.position, o.created_at
  )
  select c.id, c.event_id, c.event_kind, c.task_id, coalesce(c.task_id::text, m.task_id::text, c.event_kind),
    atlas.in_context(coalesce(c.payload, m.data), i.data -> 'metadata'),
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
grant execute on function atlas.claim_outbox(uuid, uuid, integer, interval) to service_role, atlas_worker;

-- What a relay does with rows of its destination: claims them under a lease, and settles them; and what operators do with those
-- that did not arrive, or are to be sent again.

create function atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval)
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
grant execute on function atlas.claim_outbox(uuid, uuid, integer, interval) to service_role, atlas_worker;

create function atlas.settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb default '[]', p_failed jsonb default '[]',
  p_released bigint[] default '{}') returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  settled integer;
  item record;
  was record;
begin
  update atlas.outbox o set state = 'sent', sent_at = now(), lease_owner = null, lease_expires_at = null, last_error = null
  where o.id = any (p_sent) and o.lease_owner = p_lease_owner and o.state = 'pending';
  get diagnostics settled = row_count;
  update atlas.outbox o set lease_owner = null, lease_expires_at = null
  where o.id = any (p_released) and o.lease_owner = p_lease_owner and o.state = 'pending';
  -- the destination's trouble, not the row's: it waits, so that another row is tried meanwhile
  update atlas.outbox o set lease_owner = null, lease_expires_at = null, last_error = left(f.error, 500),
    run_after = now() + make_interval(secs => least(86400, greatest(0, coalesce(f.seconds, 0))))
  from jsonb_to_recordset(p_failed) as f (id bigint, error text, seconds double precision)
  where o.id = f.id and o.lease_owner = p_lease_owner and o.state = 'pending';
  for item in
    select r.id, left(r.error, 500) as error from jsonb_to_recordset(p_rejected) as r (id bigint, error text) order by r.id
  loop
    -- a sign of progress is worth no second try
    update atlas.outbox o set rejections = o.rejections + 1, last_error = item.error, lease_owner = null, lease_expires_at = null,
      state = case when o.event_kind = 'progress' then 'skipped' when o.rejections >= 2 then 'dead' else 'pending' end,
      run_after = now() + random() * 2 ^ o.rejections * interval '1 second'
    where o.id = item.id and o.lease_owner = p_lease_owner and o.state = 'pending'
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
grant execute on function atlas.settle_outbox(uuid, bigint[], jsonb, jsonb, bigint[]) to service_role, atlas_worker;

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
comment on function atlas.retry_outbox(bigint[]) is 'Retries dead rows of the outbox; says how many.';
grant execute on function atlas.retry_outbox(bigint[]) to service_role;

create function atlas.skip_outbox(p_ids bigint[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  update atlas.outbox set state = 'skipped', lease_owner = null, lease_expires_at = null
  where id = any (p_ids) and destination_id is not null
    and (state = 'dead' or (state = 'pending' and coalesce(lease_expires_at, '-infinity') <= now()));
  get diagnostics n = row_count;
  perform atlas.append_audit(null, 'skip_outbox', jsonb_build_object('ids', p_ids, 'rows', n));
  return n;
end
$$;
comment on function atlas.skip_outbox(bigint[]) is
  'Gives rows of the outbox up, dead ones or such as nobody takes, so that later rows of their tasks leave; says how many.';
grant execute on function atlas.skip_outbox(bigint[]) to service_role;

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
grant execute on function atlas.replay_outbox(uuid, timestamptz, timestamptz, text) to service_role;

create function atlas.trim_outbox(p_keep interval, p_limit integer default 5000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
  more integer;
begin
  delete from atlas.outbox o where o.id in (
    select t.id from atlas.outbox t where t.state in ('sent', 'skipped') and t.created_at < now() - atlas.bounded(p_keep, '1 day', '10 years')
    order by t.created_at limit p_limit for update skip locked);
  get diagnostics n = row_count;
  delete from atlas.outbox o where o.id in (
    select t.id from atlas.outbox t where t.destination_id is null and t.state = 'pending' and t.created_at < now() - atlas.bounded(p_keep, '1 day', '10 years')
    order by t.position limit p_limit for update skip locked);
  get diagnostics more = row_count;
  return n + more;
end
$$;
comment on function atlas.trim_outbox(interval, integer) is
  'Deletes rows that were sent or skipped, or kept for no destination, longer ago than that; says how many.';
grant execute on function atlas.trim_outbox(interval, integer) to service_role, atlas_worker;

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
        and coalesce(r.progress_sent_at, r.started_at) < now() - atlas.bounded(p_every, '1 second', '1 day')
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
grant execute on function atlas.report_progress(interval) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

-- Calls that nobody answered, and responses that nobody reads: they end as held calls do, or are found again.

-- Ends holds whose time is over: presumed not made, or booked in full, as atlas.spend_rules says.
create function atlas.end_holds(p_limit integer default 200) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  ids bigint[];
  v_tasks uuid[];
  v_scopes text[];
  items jsonb;
begin
  select array_agg(h.id) into ids from (
    select s.id from atlas.spend s where s.held_until <= now() order by s.held_until limit p_limit) h;
  if ids is null then
    return 0;
  end if;
  -- tasks first, then days, as everywhere; who holds one of them now ends the hold itself, or the next look does
  select array_agg(l.id) into v_tasks from (
    select t.id from atlas.task t where t.id in (select s.task_id from atlas.spend s where s.id = any (ids))
    order by t.id for no key update skip locked) l;
  select jsonb_agg(jsonb_build_object('spend_id', s.id, 'usage',
      case r.hold_unknown when 'release' then '{"known": "presumed_none"}'::jsonb end)) into items
  from atlas.spend s cross join atlas.spend_rules r
  where s.id = any (ids) and s.task_id = any (v_tasks) and s.state = 'held' and s.held_until <= now();
  if items is null then
    return 0;
  end if;
  select array_agg(distinct x) into v_scopes from atlas.spend s cross join unnest(s.scopes) x where s.id = any (ids);
  perform atlas.settle_in(array(select distinct s.day from atlas.spend s where s.id = any (ids)), v_scopes, items);
  return jsonb_array_length(items);
end
$$;
comment on function atlas.end_holds(integer) is 'Ends the holds whose time is over; says how many.';
grant execute on function atlas.end_holds(integer) to service_role, atlas_worker;

-- Responses that no attempt reads any more: their task is over, or has gone on with another. Each is asked for once a minute,
-- by one worker.
create function atlas.take_orphans(p_limit integer default 20) returns table (spend_id bigint, attempt_id uuid, response_id text)
language sql security definer set search_path = ''
as $$
  update atlas.spend s set asked_at = now()
  where s.id in (
    select o.id from atlas.spend o join atlas.task t on t.id = o.task_id
    where o.left_at is not null and (o.asked_at is null or o.asked_at < now() - interval '1 minute')
      -- one that the provider told of is still to be gone on with
      and (t.finished_at is not null or (t.attempt_id <> o.attempt_id and o.adopted_at is null))
    order by o.id limit p_limit for no key update of o skip locked)
  returning s.id, s.attempt_id, s.response_id
$$;
comment on function atlas.take_orphans(integer) is
  'Responses that no attempt reads any more and that are not settled: the caller cancels them and records their usage.';
grant execute on function atlas.take_orphans(integer) to service_role, atlas_worker;

-- What the provider's webhook tells of a response: {"id", "status", "metadata": {"task", "attempt", "call"}, "usage", "text"}.
-- call is atlas.spend.id, which stays the same when another attempt goes on with the call. Answers what it did:
--   unknown    no call of ours: nothing changed
--   known      its attempt reads it, or it is settled already
--   adopted    nobody had known of it, and its task goes on with it
--   settled    its task is over, or has left it behind: its usage is settled, its text kept as its attempt's
--   corrected  it had been settled as something else; a task that is not over goes on with it
create function atlas.adopt_response(p_response jsonb) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_id constant text := p_response ->> 'id';
  v_task constant uuid := atlas.as_uuid(p_response #>> '{metadata,task}');
  v_call constant bigint := case when p_response #>> '{metadata,call}' ~ '^\d{1,18}$' then (p_response #>> '{metadata,call}')::bigint end;
  usage jsonb := p_response -> 'usage';
  call atlas.spend;
  task atlas.task;
  was text;
  answered boolean;
begin
  if coalesce(v_id, '') = '' or jsonb_typeof(p_response -> 'status') is distinct from 'string' then
    perform atlas.refuse('response', 'has no id or no status', 'send {"id", "status", "metadata", "usage", "text"}', 'AT005',
      'adopt_response');
  end if;
  if p_response ->> 'status' not in ('completed', 'incomplete', 'failed', 'cancelled') then
    return 'known';
  end if;
  select s.* into call from atlas.spend s
  where s.id = v_call and s.task_id = v_task and s.corrects is null and (s.response_id is null or s.response_id = v_id)
    and exists (select from atlas.attempt a where a.task_id = s.task_id and a.id = atlas.as_uuid(p_response #>> '{metadata,attempt}'));
  if not found then
    return 'unknown';
  end if;
  select t.* into task from atlas.task t where t.id = call.task_id for no key update;
  select s.* into call from atlas.spend s where s.id = call.id and (s.response_id is null or s.response_id = v_id) for update;
  if not found then
    return 'unknown';
  end if;
  was := call.state;
  if jsonb_typeof(usage) is distinct from 'object' then
    -- a response that failed costs nothing; of another nobody will know
    usage := case p_response ->> 'status' when 'failed' then jsonb '{"known": "none"}' end;
  else
    usage := usage || jsonb '{"known": "reported"}';
  end if;
  answered := p_response ->> 'status' in ('completed', 'incomplete') and coalesce(p_response ->> 'text', '') <> '';
  update atlas.spend s set response_id = v_id, adopted_at = coalesce(s.adopted_at, now()) where s.id = call.id;
  if was = 'settled' then
    if usage is null or call.known = 'reported'
       or exists (select from atlas.spend c where c.corrects = call.id and c.known = 'reported') then
      return 'known';
    end if;
    perform atlas.settle_call(call.id, usage);
    if task.finished_at is null and answered then
      perform atlas.go_on_with(task);
    else
      perform atlas.keep_late_text(call.attempt_id, task, p_response ->> 'text');
    end if;
    return 'corrected';
  end if;
  if task.finished_at is not null then
    perform atlas.settle_call(call.id, usage);
    perform atlas.keep_late_text(call.attempt_id, task, p_response ->> 'text');
    return 'settled';
  end if;
  if task.state = 'running' and task.attempt_id = call.attempt_id then
    if was = 'held' then
      -- an attempt that went on without it, such as after a repair that was not answered
      perform atlas.settle_call(call.id, usage);
      perform atlas.keep_late_text(call.attempt_id, task, p_response ->> 'text');
      return 'settled';
    end if;
    if answered and not exists (select from atlas.attempt a where a.id = call.attempt_id and a.response_id = v_id) then
      -- its attempt still waits for an answer that may never come
      perform atlas.go_on_with(task);
      return 'adopted';
    end if;
    return 'known';
  end if;
  if not answered then
    perform atlas.settle_call(call.id, usage);
  elsif was = 'held' then
    update atlas.spend s set state = 'reserved', held_until = null, left_at = now() where s.id = call.id;
  end if;
  perform atlas.append_audit(task.id, 'adopt_response', jsonb_build_object('response', v_id, 'status', p_response ->> 'status',
    'call', call.call, 'was', was));
  if answered or task.state = 'queued' then
    perform atlas.go_on_with(task);
  end if;
  return case when answered then 'adopted' else 'settled' end;
end
$$;
comment on function atlas.adopt_response(jsonb) is
  'Takes what the provider''s webhook tells of a response: a held call becomes known, a task that waits for it is woken, a task that
is over has it settled. Answers unknown, known, adopted, settled or corrected.';
grant execute on function atlas.adopt_response(jsonb) to service_role;

-- The first response that is there is the reply: a task that waits is woken, a worker that is at another call of it stops that one.
create function atlas.go_on_with(p_task atlas.task) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if p_task.state = 'queued' and p_task.wait_reason is distinct from 'scheduled' then
    update atlas.task t set wait_reason = null, wait_scope = null, run_after = now() where t.id = p_task.id;
    perform atlas.wake_workers();
  elsif p_task.state = 'running' then
    update atlas.task t set adopted_at = now() where t.id = p_task.id;
    notify atlas_wake, 'cancel';
  end if;
end
$$;
comment on function atlas.go_on_with(atlas.task) is 'Lets a task go on with a response that was heard of. Internal: the caller holds its task.';

create function atlas.settle_call(p_spend_id bigint, p_usage jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  call atlas.spend;
begin
  select s.* into call from atlas.spend s where s.id = p_spend_id;
  perform atlas.settle_in(array[call.day], call.scopes,
    jsonb_build_array(jsonb_build_object('spend_id', p_spend_id, 'usage', p_usage)));
end
$$;
comment on function atlas.settle_call(bigint, jsonb) is 'Settles or corrects one call. Internal: the caller holds its task.';

create function atlas.keep_late_text(p_attempt_id uuid, p_task atlas.task, p_text text) returns void
language sql security definer set search_path = ''
as $$
  update atlas.attempt a set late_text = p_text
  where a.id = p_attempt_id and coalesce(p_text, '') <> '' and p_task.title <> '[erased]'
    and not exists (select from public.architect_out o where o.id = p_task.out_id and o.data ->> 'content' = p_text)
$$;
comment on function atlas.keep_late_text(uuid, atlas.task, text) is
  'Keeps the text of a response that came after its task was over, unless it is the reply. Internal.';

revoke execute on all functions in schema atlas, rag from public;

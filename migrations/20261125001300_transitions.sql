-- How a task ends, or goes back: complete, fail, cancel, retry, and what happens when a worker is lost.
-- Each is one transaction over state, reply, spend, audit and outbox, and needs the attempt that is running now.

-- AT002 when the attempt is not the one that runs the task now.
create function atlas.raise_lost(p_attempt_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  a record;
begin
  select x.state, x.number, x.task_id into a from atlas.attempt x where x.id = p_attempt_id;
  if not found then
    raise exception using errcode = 'AT004', message = format('no attempt %s', p_attempt_id),
      hint = 'an attempt id comes from claim_tasks';
  end if;
  raise exception using errcode = 'AT002',
    message = format('attempt %s of task %s is %s: its lease is lost', a.number, a.task_id, a.state),
    hint = 'stop the call: another attempt owns the task';
end
$$;
comment on function atlas.raise_lost(uuid) is 'Raises the error of an attempt that owns nothing any more.';

create function atlas.reply_metadata(p_parent uuid, p_metadata jsonb) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_build_object('tokens', 0, 'model', null, 'parent_id', p_parent,
    'schema_ver', case when p_metadata ?| array['sources', 'usage', 'error', 'warnings', 'truncated', 'kind',
      'traceparent', 'chunk', 'reply_to', 'project'] then 2 else 1 end) || p_metadata
$$;
comment on function atlas.reply_metadata(uuid, jsonb) is 'Metadata with all that the contract asks for; version 2 only where needed.';

create function atlas.reply(p_task atlas.task, p_type text, p_content text, p_metadata jsonb) returns bigint
language sql security definer set search_path = ''
as $$
  insert into public.architect_out (data, task_id, owner, project_id)
  values (jsonb_build_object('task_id', p_task.message_task_id, 'role', 'architect', 'msg_type', p_type,
      'content', p_content, 'metadata', atlas.reply_metadata(p_task.parent_id, p_metadata)),
    p_task.message_task_id, p_task.sender, p_task.project_id)
  returning id
$$;
comment on function atlas.reply(atlas.task, text, text, jsonb) is 'Writes a row of architect_out. Internal.';

create function atlas.escalate(p_task_id uuid, p_code text, p_message text) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id or (t.kind = 'control' and t.message_task_id = p_task_id)
  order by (t.id = p_task_id) desc, t.id limit 1 for no key update;
  if not found then
    return;
  end if;
  perform atlas.reply(task, 'control', jsonb_build_object('command', 'escalate', 'task_id', task.message_task_id,
    'code', p_code)::text, jsonb_build_object('status', task.state, 'error', jsonb_build_object('code', p_code,
    'message', p_message)));
  perform atlas.append_audit(task.id, 'escalate', jsonb_build_object('code', p_code));
end
$$;
comment on function atlas.escalate(uuid, text, text) is 'Tells people, by a control message on architect_out.';
grant execute on function atlas.escalate(uuid, text, text) to service_role, atlas_worker;

-- Many completions in one commit. An item is {"attempt_id", "content", "metadata", "model", "response_id",
-- "usages": {"<call>": usage}, "msg_type"}. Answers the attempts that were completed (also when they were before): the rest are lost.
create function atlas.complete_tasks(p_items jsonb) returns setof uuid
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  ids constant uuid[] := array(select (i ->> 'attempt_id')::uuid from jsonb_array_elements(p_items) i);
  v_tasks uuid[];
  done uuid[];
  details jsonb;
begin
  select array_agg(l.id), array_agg(l.attempt_id) into v_tasks, done from (
    select t.id, t.attempt_id from atlas.task t
    where t.id = any (array(select a.task_id from atlas.attempt a where a.id = any (ids))) and t.attempt_id = any (ids)
    order by t.id for no key update) l;
  -- after the locks: the same call may have been under way, and is answered as it was
  return query select a.id from atlas.attempt a where a.id = any (ids) and a.state = 'completed';
  if done is null then
    return;
  end if;
  perform from atlas.attempt a where a.id = any (done) order by a.id for no key update;
  with item as materialized (
    select distinct on (t.id) t.id, t.message_task_id, t.sender, t.project_id, t.parent_id, t.attempt_id, t.attempts,
      i.content, i.model, i.response_id,
      jsonb_build_object('status', 'completed', 'model', i.model) || coalesce(i.metadata, '{}') as metadata,
      coalesce(i.msg_type, 'spec') as msg_type, nextval('public.architect_out_id_seq') as reply_id
    from jsonb_to_recordset(p_items) as i (attempt_id uuid, content text, metadata jsonb, model text, msg_type text, response_id text)
    join (select k.* from atlas.task k where k.id = any (v_tasks) offset 0) t on t.attempt_id = i.attempt_id
    order by t.id
  ),
  replied as (
    insert into public.architect_out (id, data, task_id, owner, project_id) overriding system value
    select i.reply_id, jsonb_build_object('task_id', i.message_task_id, 'role', 'architect', 'msg_type', i.msg_type,
        'content', i.content, 'metadata', atlas.reply_metadata(i.parent_id, i.metadata)),
      i.message_task_id, i.sender, i.project_id
    from item i order by i.reply_id
    returning architect_out.id, atlas.message_sha256(architect_out.data) as hash
  ),
  ended as (
    update atlas.attempt a set state = 'completed', finished_at = now(), model = coalesce(i.model, a.model),
      response_id = coalesce(i.response_id, a.response_id)
    from item i where a.id = i.attempt_id and a.id = any (done)
  ),
  finished as (
    update atlas.task t set state = 'completed', attempt_id = null, finished_at = now(), out_id = i.reply_id,
      model = i.model, error_code = null, error_message = null, outage_since = null
    from item i where t.id = i.id and t.id = any (v_tasks)
  )
  select jsonb_object_agg(i.id, jsonb_strip_nulls(jsonb_build_object('attempt', i.attempts,
      'worker', (select a.lease_owner from atlas.attempt a where a.id = i.attempt_id), 'model', i.model,
      'reply_sha256', encode(sha256(convert_to(i.content, 'UTF8')), 'hex'), 'message_sha256', r.hash)))
    into details from item i join replied r on r.id = i.reply_id;
  perform atlas.settle_attempts(done,
    (select jsonb_object_agg(i ->> 'attempt_id', coalesce(i -> 'usages', '{}')) from jsonb_array_elements(p_items) i),
    'complete_task', details);
  return query select unnest(done);
end
$$;
comment on function atlas.complete_tasks(jsonb) is
  'Completes attempts: reply, spend, audit and outbox in one transaction. Answers those that were not lost.';
grant execute on function atlas.complete_tasks(jsonb) to service_role, atlas_worker;

-- Ends a task without a reply: failed, cancelled or dead_lettered. The caller holds the lock.
create function atlas.end_task(p_task atlas.task, p_state text, p_code text, p_message text, p_usages jsonb)
returns void
language plpgsql security definer set search_path = ''
as $$
declare
  reply_id bigint;
begin
  reply_id := atlas.reply(p_task, case p_task.kind when 'chat' then 'spec' else 'control' end, '',
    jsonb_build_object('status', p_state, 'error', jsonb_build_object('code', p_code, 'message', p_message)));
  update atlas.attempt a set state = case p_state when 'cancelled' then 'cancelled' else 'failed' end,
    finished_at = now(), error_code = p_code, error_message = p_message
  where a.id = p_task.attempt_id;
  update atlas.task t set state = p_state, attempt_id = null, wait_reason = null, wait_scope = null, finished_at = now(),
    out_id = reply_id, error_code = p_code, error_message = p_message,
    failures = t.failures + case p_state when 'cancelled' then 0 else 1 end
  where t.id = p_task.id;
  perform atlas.append_audit(p_task.id, case p_state when 'cancelled' then 'cancel_task' else 'fail_task' end,
    jsonb_strip_nulls(jsonb_build_object('state', p_state, 'code', p_code, 'attempt', p_task.attempts,
      'worker', (select a.lease_owner from atlas.attempt a where a.id = p_task.attempt_id))));
  if p_task.attempt_id is not null then
    perform atlas.settle_attempts(array[p_task.attempt_id], jsonb_build_object(p_task.attempt_id, p_usages));
  end if;
end
$$;
comment on function atlas.end_task(atlas.task, text, text, text, jsonb) is 'Ends a task without a reply. Internal.';

-- Full jitter, doubling from 2 s up to 5 min, never less than what the provider asked for. What is asked for again while the way
-- to it is broken, or while it is written, is asked for at pauses that grow with the time since.
create function atlas.due_again(p_task atlas.task, p_kind text, p_retry_after interval) returns timestamptz
language sql volatile set search_path = ''
as $$
  select now() + case p_kind
    when 'released' then interval '0'
    when 'held' then interval '0'  -- wait_for_holds says how long
    when 'own' then greatest(coalesce(p_retry_after, '0'), random() * least(300, 2 * 2 ^ p_task.failures) * interval '1 second')
    when 'response' then coalesce(p_retry_after, interval '2 seconds')
    else greatest(coalesce(p_retry_after, '0'), (0.5 + random() / 2) * interval '1 second' * least(60, greatest(5,
      coalesce(extract(epoch from now() - p_task.outage_since), 0) / 2))) end
$$;
comment on function atlas.due_again(atlas.task, text, interval) is 'When a task that is handed back is due again. Internal.';

-- A task whose call is held waits before its second call, and after that one until the first hold ends.
create function atlas.wait_for_holds(p_tasks uuid[]) returns void
language sql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
  update atlas.task t set wait_reason = 'held', wait_scope = null,
    run_after = greatest(t.run_after, case when h.calls = 1 then now() + interval '1 second' * r.held_retry_seconds else h.ends end)
  from (
    select s.task_id, count(*) as calls, min(s.held_until) as ends, max(s.reserved_at) as latest from atlas.spend s
    where s.task_id = any (p_tasks) and s.state = 'held' and s.held_until > now() group by s.task_id) h
  cross join atlas.spend_rules r
  where t.id = h.task_id and t.state = 'queued' and t.cancel_requested_at is null
    -- a response that is known is asked for at once, whatever else is held
    and (select true from atlas.spend o where o.task_id = t.id and o.state = 'reserved' and o.response_id is not null limit 1) is null
$$;
comment on function atlas.wait_for_holds(uuid[]) is 'Makes tasks wait whose calls are held. Internal.';

-- kind: 'own' counts against the task and is tried again until max_attempts; 'final' is never tried again; 'budget' is final,
-- unless a budget was lowered after the question was asked: then it waits; 'outage' is upstream's and uses no attempt; 'held'
-- waits to hear what became of a call; 'response' waits for a response that is under way; 'released' hands an unfinished task
-- back at once (shutdown). A response that is known stays with the task in all of them.
create function atlas.fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text default 'own',
  p_retry_after interval default null, p_usages jsonb default '{}') returns text
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  task atlas.task;
  lowered text;
  patience interval;
begin
  if p_kind not in ('own', 'final', 'budget', 'outage', 'held', 'response', 'released') then
    raise exception using errcode = 'AT005', message = format('fail_task: kind %L is not known', p_kind),
      hint = 'use own, final, budget, outage, held, response or released';
  end if;
  select t.* into task from atlas.task t
  where t.id = (select a.task_id from atlas.attempt a where a.id = p_attempt_id) and t.attempt_id = p_attempt_id for no key update;
  if not found then
    perform atlas.raise_lost(p_attempt_id);
  end if;
  -- a response that is gone is generated anew, once
  if p_code = 'response_gone' and exists (select from atlas.attempt a where a.task_id = task.id and a.error_code = p_code) then
    p_kind := 'own';
  end if;
  if p_code = 'response_gone' then
    -- what the provider told of is not there any more
    update atlas.spend s set adopted_at = null
    where s.attempt_id = task.attempt_id and s.corrects is null and s.state = 'settled' and s.adopted_at is not null;
  end if;
  if p_kind = 'budget' then
    select b.scope into lowered from atlas.budget b
    where b.scope in ('global', 'project:' || task.project_id, 'sender:' || task.sender_key) and task.queued_at
      < case p_code when 'run_budget' then b.run_lowered_at when 'day_budget' then b.day_lowered_at when 'month_budget' then b.month_lowered_at end
    order by b.scope limit 1;
    if found then
      perform atlas.settle_attempts(array[task.attempt_id], jsonb_build_object(task.attempt_id, p_usages));
      perform atlas.wait_for_budget(task, jsonb_build_object('outcome', 'defer', 'code', p_code, 'scope', lowered, 'message', p_message,
        'until', (atlas.today() + 1)::timestamp at time zone 'UTC'));
      return 'queued';
    end if;
  end if;
  if p_kind in ('final', 'budget') then
    perform atlas.end_task(task, 'failed', p_code, p_message, p_usages);
    return 'failed';
  end if;
  if p_kind = 'own' and task.failures + 1 >= task.max_attempts then
    perform atlas.end_task(task, 'dead_lettered', p_code, p_message, p_usages);
    perform atlas.escalate(task.id, p_code, p_message);
    return 'dead_lettered';
  end if;
  perform atlas.release_task(task, case p_kind when 'outage' then 'upstream' when 'own' then 'retry' when 'released' then null
      else p_kind end,
    atlas.due_again(task, p_kind, case when p_retry_after is not null then atlas.bounded(p_retry_after, '0', '1 day') end), case p_kind when 'own' then 'failed' else 'released' end, p_code, p_message);
  perform atlas.settle_attempts(array[task.attempt_id], jsonb_build_object(task.attempt_id, p_usages));
  perform atlas.wait_for_holds(array[task.id]);
  -- a response that is written for much longer than was asked for is an outage as well
  select case p_kind when 'response' then interval '1 hour' + case max(s.completion_window) when '8h' then interval '8 hours'
      when '2h' then interval '2 hours' else interval '0' end else interval '5 minutes' end into patience
  from atlas.spend s where s.task_id = task.id and s.state = 'reserved';
  update atlas.task t set failures = t.failures + case p_kind when 'own' then 1 else 0 end,
    outage_since = case when p_kind in ('outage', 'held', 'response') then coalesce(t.outage_since, now()) when p_kind = 'own' then null
                        else t.outage_since end,
    escalated_at = case when p_kind in ('outage', 'held', 'response') and t.outage_since < now() - patience
                        then coalesce(t.escalated_at, now()) else t.escalated_at end
  where t.id = task.id;
  if task.escalated_at is null and p_kind in ('outage', 'held', 'response') and task.outage_since < now() - patience then
    perform atlas.escalate(task.id, p_code, p_message);
  end if;
  if p_kind = 'released' then
    perform atlas.wake_workers();
  end if;
  return 'queued';
end
$$;
comment on function atlas.fail_task(uuid, text, text, text, interval, jsonb) is
  'Ends an attempt that has no reply: own (tried again, then dead-lettered), final, budget, outage, held, response, released. Says
the state.';
grant execute on function atlas.fail_task(uuid, text, text, text, interval, jsonb) to service_role, atlas_worker;

-- Without an attempt: anybody who owns the task, or the service role, asks. A queued task is cancelled at once; a
-- running one is flagged, and its worker confirms with the attempt and the usage of the stopped call.
create function atlas.cancel_task(p_task_id uuid, p_attempt_id uuid default null, p_usages jsonb default '{}')
returns text
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
  trusted constant boolean := atlas.is_service() or atlas.caller_role() = 'atlas_worker';
begin
  if p_attempt_id is not null and not trusted then
    raise exception using errcode = 'AT006', message = 'cancel_task: an attempt is confirmed by its worker only',
      hint = 'leave the attempt out: the worker is told to stop';
  end if;
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found or not (trusted or coalesce(task.sender = atlas.uid(), false)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id),
      hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  if p_attempt_id is not null then
    if task.attempt_id is distinct from p_attempt_id then
      perform atlas.raise_lost(p_attempt_id);
    end if;
    perform atlas.end_task(task, 'cancelled', 'cancelled', 'cancelled on request', p_usages);
    return 'cancelled';
  end if;
  if task.state not in ('queued', 'running') then
    return task.state;
  end if;
  -- a held call ends by itself; a response that is under way is stopped by a worker
  if task.state = 'queued' and not exists (select from atlas.spend s where s.task_id = task.id and s.state = 'reserved') then
    perform atlas.end_task(task, 'cancelled', 'cancelled', 'cancelled before it ran', '{}');
    return 'cancelled';
  end if;
  update atlas.task t set cancel_requested_at = coalesce(t.cancel_requested_at, now()), wait_reason = null,
    wait_scope = null
  where t.id = task.id;
  perform atlas.append_audit(task.id, 'request_cancel', '{}');
  -- rare, so its lock does no harm: the worker that runs it must hear of it now
  notify atlas_wake, 'cancel';
  return task.state;
end
$$;
comment on function atlas.cancel_task(uuid, uuid, jsonb) is
  'Cancels a task: at once when queued; a running one is flagged for its worker. Says the state it is in now.';
grant execute on function atlas.cancel_task(uuid, uuid, jsonb) to authenticated, service_role, atlas_worker;

create function atlas.retry_task(p_task_id uuid) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
  trusted constant boolean := atlas.is_service();
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found or not (trusted or coalesce(task.sender = atlas.uid(), false)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id),
      hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  -- it would be paid for by a project that its asker has left
  if not trusted and task.project_id <> '00000000-0000-0000-0000-000000000001'
     and not exists (select from atlas.my_projects() m where m = task.project_id) then
    perform atlas.refuse('project', 'is not one of yours any more', 'ask again in a project of yours', 'AT006');
  end if;
  if task.state = 'queued' and not trusted then
    raise exception using errcode = 'AT005', message = format('task %s is queued', p_task_id), hint = 'it goes on by itself';
  end if;
  if task.title = '[erased]' then
    raise exception using errcode = 'AT005', message = format('task %s was erased', p_task_id),
      hint = 'ask the question again';
  end if;
  if task.state in ('running', 'completed') then
    raise exception using errcode = 'AT005', message = format('task %s is %s', p_task_id, task.state),
      hint = case task.state when 'running' then 'cancel it first' else 'ask again with `atlas ask --parent`' end;
  end if;
  update atlas.task t set state = 'queued', wait_reason = null, wait_scope = null, run_after = now(), failures = 0,
    losses = 0, early_losses = 0, finished_at = null,
    out_id = null, cancel_requested_at = null, outage_since = null, escalated_at = null,
    error_code = null, error_message = null
  where t.id = p_task_id;
  perform atlas.append_audit(p_task_id, 'retry_task', jsonb_build_object('was', task.state));
  perform atlas.wake_workers();
  return 'queued';
end
$$;
comment on function atlas.retry_task(uuid) is 'Retries a failed, cancelled or dead-lettered task; for operators a waiting one too. People retry their own.';
grant execute on function atlas.retry_task(uuid) to authenticated, service_role;

-- Tasks whose worker is lost. What it had reserved without a response is held: nobody knows whether it was sent. What has a
-- response stays reserved, and passes to the next attempt, which goes on with it. Losses count where something was reserved; five
-- end the task, unless its response is there to be looked up. A task that loses ten workers in either way ends whatever it has.
create function atlas.release_expired(p_limit integer default 100) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  task atlas.task;
  lost uuid[] := '{}'::uuid[];
  tasks uuid[] := '{}'::uuid[];
begin
  for task in
    select t.* from atlas.task t
    where t.state = 'running' and t.id in (
      select a.task_id from atlas.attempt a where a.state = 'running' and a.lease_expires_at < now()
      order by a.lease_expires_at limit p_limit)
    order by t.id for no key update skip locked
  loop
    -- the lease may have been extended while this waited for nothing: look again under the lock
    if not exists (select from atlas.attempt a where a.id = task.attempt_id and a.lease_expires_at < now()
                   for no key update skip locked) then
      continue;
    end if;
    lost := lost || task.attempt_id;
    tasks := tasks || task.id;
    perform atlas.release_task(task, null, now(), 'lost', 'lease_lost', 'the worker stopped extending its lease');
  end loop;
  if cardinality(lost) = 0 then
    return 0;
  end if;
  update atlas.task t set losses = t.losses + case when x.reserved then 1 else 0 end,
    early_losses = t.early_losses + case when x.reserved then 0 else 1 end
  from (select a.task_id, coalesce((select true from atlas.spend s where s.attempt_id = a.id and s.corrects is null limit 1), false) as reserved
        from atlas.attempt a where a.id = any (lost)) x
  where t.id = x.task_id;
  perform atlas.settle_attempts(lost, '{}');
  perform atlas.wait_for_holds(tasks);
  -- a task that keeps losing its workers is not tried for ever
  for task in
    select t.* from atlas.task t
    where t.id = any (tasks) and t.state = 'queued' and (t.losses >= 10 or t.early_losses >= 10 or (t.losses >= 5
      and (select true from atlas.spend s where s.task_id = t.id and s.state = 'reserved' and s.response_id is not null limit 1) is null))
    order by t.id for no key update skip locked
  loop
    perform atlas.end_task(task, 'dead_lettered', 'lease_lost', format('%s workers were lost while they ran it%s',
      greatest(task.losses, task.early_losses), case when task.losses < 5 then ', before they had reserved anything' else '' end), '{}');
    perform atlas.escalate(task.id, 'lease_lost', format('%s workers were lost while they ran it',
      greatest(task.losses, task.early_losses)));
  end loop;
  perform atlas.wake_workers();
  return cardinality(lost);
end
$$;
comment on function atlas.release_expired(integer) is 'Puts tasks of lost workers back in the queue; says how many.';
grant execute on function atlas.release_expired(integer) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

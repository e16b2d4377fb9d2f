-- Asking back: a question that lacks what its answer hinges on comes back with one question, at most once. Nothing is reserved meanwhile.
--
--   running > needs_input > queued, by an answer; or > cancelled
--
-- locks: atlas.task AccessExclusiveLock: changes of the catalog alone

-- squawk-ignore ban-drop-constraint
alter table atlas.task drop constraint task_state_check;
alter table atlas.task add constraint task_state_check
  check (state in ('queued', 'running', 'needs_input', 'completed', 'failed', 'cancelled', 'dead_lettered')) not valid;
alter table atlas.task add column asked text;
alter table atlas.task add column answered text;
comment on column atlas.task.state is 'queued, running, needs_input, completed, failed, cancelled or dead_lettered.';
comment on column atlas.task.asked is 'What the architect asked back; at most once.';
comment on column atlas.task.answered is 'What was answered to that.';

create function atlas.ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb default '{}') returns text
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
  reply_id bigint;
begin
  select t.* into task from atlas.task t
  where t.id = (select a.task_id from atlas.attempt a where a.id = p_attempt_id) and t.attempt_id = p_attempt_id for no key update;
  if not found then
    perform atlas.raise_lost(p_attempt_id);
  end if;
  if task.asked is not null then
    raise exception using errcode = 'AT005', message = format('ask_back: task %s has asked back already', task.id), hint = 'answer with what is known';
  end if;
  reply_id := atlas.reply(task, 'spec', p_content, p_metadata || jsonb_build_object('status', 'needs_input'));
  update atlas.attempt a set state = 'released', finished_at = now() where a.id = p_attempt_id;
  update atlas.task t set state = 'needs_input', attempt_id = null, out_id = reply_id, asked = p_content, model = p_metadata ->> 'model',
    error_code = null, error_message = null, outage_since = null
  where t.id = task.id;
  perform atlas.append_audit(task.id, 'ask_back', jsonb_build_object('attempt', task.attempts, 'sha256', encode(sha256(convert_to(p_content, 'UTF8')), 'hex')));
  perform atlas.settle_attempts(array[p_attempt_id], jsonb_build_object(p_attempt_id, p_usages));
  return 'needs_input';
end
$$;
comment on function atlas.ask_back(uuid, text, jsonb, jsonb) is
  'Ends an attempt with a question to whoever asked: the task waits for atlas.answer_task. Its money is settled.';
grant execute on function atlas.ask_back(uuid, text, jsonb, jsonb) to service_role, atlas_worker;

create function atlas.answer_task(p_task_id uuid, p_answer text) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found or not (atlas.is_service() or atlas.owns_task(p_task_id)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  if task.state <> 'needs_input' then
    raise exception using errcode = 'AT005', message = format('answer_task: task %s is %s, and is not waiting for an answer', p_task_id, task.state),
      hint = case when task.answered is not null then 'it was answered already' else 'a task that is needs_input can be answered' end;
  end if;
  if btrim(coalesce(p_answer, ''), E' \t\r\n') = '' or length(p_answer) > 20000 then
    perform atlas.refuse('answer', 'is empty, or longer than 20,000 characters', 'say it in a sentence', 'AT001', 'answer_task');
  end if;
  update atlas.task t set state = 'queued', answered = p_answer, run_after = now(), out_id = null where t.id = p_task_id;
  perform atlas.append_audit(p_task_id, 'answer_task', jsonb_build_object('sha256', encode(sha256(convert_to(p_answer, 'UTF8')), 'hex')));
  perform atlas.wake_workers();
  return 'queued';
end
$$;
comment on function atlas.answer_task(uuid, text) is 'Answers what a task asked back: it is queued again. For who may read the task.';
grant execute on function atlas.answer_task(uuid, text) to authenticated, service_role;

create function atlas.answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  v_task uuid;
begin
  select i.task_id into v_task from atlas.inbound i where (i.source, i.event_id) = (p_source, p_event_id);
  if found then
    return v_task;
  end if;
  select t.id into v_task from public.architect_in i join atlas.task t on t.in_id = i.id
  where i.data #>> '{metadata,reply_to}' = p_reply_to and t.kind = 'chat' and t.state = 'needs_input'
  order by t.queued_at desc limit 1 for no key update of t;
  if v_task is null or btrim(coalesce(p_answer, '')) = '' then
    return null;
  end if;
  insert into atlas.inbound (source, event_id, task_id) values (p_source, p_event_id, v_task) on conflict do nothing;
  if found then
    perform atlas.answer_task(v_task, left(p_answer, 20000));
  end if;
  return v_task;
end
$$;
comment on function atlas.answer_at(text, text, text, text) is
  'Answers, in a thread outside, the task there that asked back; says which. Null where none did: then it is a question. Once a delivery.';
grant execute on function atlas.answer_at(text, text, text, text) to service_role;

create function atlas.forget_asked() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  update atlas.task t set asked = null, answered = null where t.id = new.id and (t.asked is not null or t.answered is not null);
  return null;
end
$$;
comment on function atlas.forget_asked() is 'Drops what a task asked back when it is erased or trimmed.';

create trigger forget_asked after update of erased_at on atlas.task
  for each row when (new.erased_at is not null) execute function atlas.forget_asked();
comment on trigger forget_asked on atlas.task is 'Drops what a task asked back when it is erased or trimmed.';

create function atlas.get_asked(p_task_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return (select jsonb_build_object('asked', t.asked, 'answered', t.answered) from atlas.task t where t.id = p_task_id and t.answered is not null);
end
$$;
comment on function atlas.get_asked(uuid) is 'What a task asked back, and was answered; null where it did not.';
grant execute on function atlas.get_asked(uuid) to service_role, atlas_worker;

create or replace function atlas.cancel_task(p_task_id uuid, p_attempt_id uuid default null, p_usages jsonb default '{}')
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
  if task.state not in ('queued', 'running', 'needs_input') then
    return task.state;
  end if;
  -- a held call ends by itself; a response that is under way is stopped by a worker
  if task.state in ('queued', 'needs_input') and not exists (select from atlas.spend s where s.task_id = task.id and s.state = 'reserved') then
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

revoke execute on all functions in schema atlas, rag from public;

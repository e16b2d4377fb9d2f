-- Retention: ended tasks lose their texts, and go, as old as the policy says. Spend and audit stay.
--
-- locks: public.architect_in AccessExclusiveLock, atlas.task AccessExclusiveLock, atlas.control AccessExclusiveLock: changes of the
-- catalog alone

-- A foreign key would look for the tasks of a message by an index of its own. A task is found by its id; the trigger that makes it
-- gives it its message.
-- squawk-ignore ban-drop-constraint
alter table atlas.task drop constraint task_in_id_fkey;

create function atlas.keep_message() returns trigger
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  if exists (select from atlas.task t where t.id = old.task_id and t.in_id = old.id)
     or exists (select from atlas.task t where t.message_task_id = old.task_id and t.kind = 'control' and t.in_id = old.id) then
    raise exception using errcode = 'AT005', message = format('message %s is that of task %s', old.id, old.task_id),
      hint = 'set a retention (`atlas retention`), or erase its text (`atlas erase`)';
  end if;
  return old;
end
$$;
comment on function atlas.keep_message() is 'Keeps the message of a task for as long as there is the task.';

create trigger keep_message before delete on public.architect_in for each row execute function atlas.keep_message();
comment on trigger keep_message on public.architect_in is 'Keeps the message of a task for as long as there is the task.';

alter table atlas.control add column keep_tasks interval constraint tasks_stay_for_a_day check (keep_tasks >= interval '1 day');
alter table atlas.control add column keep_texts interval constraint texts_stay_for_a_day check (keep_texts >= interval '1 day');
alter table atlas.control add column parts_trimmed_to timestamptz not null default '-infinity';
comment on column atlas.control.keep_tasks is 'How long ended tasks stay; null: forever. See atlas.set_retention().';
comment on column atlas.control.keep_texts is 'How long the texts of ended tasks stay; null: as long as the tasks.';
comment on column atlas.control.parts_trimmed_to is 'Tasks that were asked up to this time have had their turn: their parts were trimmed, or they are in atlas.later_trim.';
comment on constraint tasks_stay_for_a_day on atlas.control is 'Who reads a reply has a day for it at least.';
comment on constraint texts_stay_for_a_day on atlas.control is 'Who reads a reply has a day for it at least.';

create function atlas.set_retention(p_tasks interval, p_texts interval default null) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if least(p_tasks, p_texts) < interval '1 day' then
    raise exception using errcode = 'AT005', message = format('set_retention: %s is too short', least(p_tasks, p_texts)),
      hint = 'keep tasks and texts for a day at least';
  end if;
  update atlas.control set keep_tasks = p_tasks, keep_texts = p_texts;
  perform atlas.append_audit(null, 'set_retention', jsonb_build_object('tasks', p_tasks, 'texts', p_texts));
end
$$;
comment on function atlas.set_retention(interval, interval) is
  'How long ended tasks stay, and how long their texts do; null: forever. Workers trim what is older, in batches, every minute.';
grant execute on function atlas.set_retention(interval, interval) to service_role;

-- A dead event can still be sent again (atlas.retry_outbox); skipped, it no longer keeps its task.
create function atlas.is_leaving(p_task uuid, p_message_task uuid) returns boolean
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return exists (select from atlas.outbox o where o.task_id = p_task and o.state in ('pending', 'dead') and o.destination_id is not null)
    or exists (select from public.architect_out m join atlas.outbox o on o.out_id = m.id
      where m.task_id = p_message_task and o.state in ('pending', 'dead') and o.destination_id is not null);
end
$$;
comment on function atlas.is_leaving(uuid, uuid) is 'Whether an event of a task, or an answer under its id, did not arrive yet. Internal.';

create function atlas.trim_tasks(p_before timestamptz, p_limit integer) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks uuid[];
  v_in bigint[];
  v_messages uuid[];
  v_out bigint[];
begin
  select coalesce(array_agg(t.id), '{}'), array_agg(t.in_id), array_agg(t.message_task_id) into v_tasks, v_in, v_messages
  from (
    select t.id, t.in_id, t.message_task_id from atlas.task t
    where t.queued_at < p_before and t.finished_at < p_before
      -- of a call that nobody knows of, the provider may still tell
      and not exists (select from atlas.spend s where s.task_id = t.id and (s.state <> 'settled'
        or (s.known in ('unknown', 'presumed_none') and s.settled_at > now() - interval '7 days')))
      and not atlas.is_leaving(t.id, t.message_task_id)
    order by t.queued_at limit p_limit for update skip locked) t;
  if v_tasks = '{}' then
    return 0;
  end if;
  delete from atlas.reply_part p where p.task_id = any (v_tasks);
  delete from atlas.watch w where w.task_id = any (v_tasks);
  delete from atlas.post p where p.task_id = any (v_tasks);
  delete from rag.cache c where c.task_id = any (v_tasks);
  delete from atlas.attempt a where a.task_id = any (v_tasks);
  delete from atlas.task t where t.id = any (v_tasks);
  -- a command that names a task is answered under its id: that task's reply stays
  v_out := array(select o.id from public.architect_out o
    where o.task_id = any (v_messages)
      and not exists (select from atlas.task t where t.id = o.task_id or (t.message_task_id = o.task_id and t.out_id = o.id)));
  delete from atlas.outbox o where o.out_id = any (v_out);
  delete from public.architect_out o where o.id = any (v_out);
  delete from public.architect_in i where i.id = any (v_in);
  perform atlas.append_audits('trim_task', v_tasks, array_fill(jsonb '{}', array[cardinality(v_tasks)]));
  return cardinality(v_tasks);
end
$$;
comment on function atlas.trim_tasks(timestamptz, integer) is
  'Deletes tasks that ended before a time, with their attempts, parts and messages, unless a call of theirs is open or unknown, or an event has not arrived. Internal.';

create function atlas.trim_texts(p_before timestamptz, p_limit integer) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks constant uuid[] := array(
    select t.id from atlas.task t
    where t.erased_at is null and t.queued_at < p_before and t.finished_at < p_before
      and not atlas.is_leaving(t.id, t.message_task_id)
    order by t.queued_at limit p_limit for no key update skip locked);
begin
  if cardinality(v_tasks) > 0 then
    perform atlas.erase_texts(v_tasks);
  end if;
  return cardinality(v_tasks);
end
$$;
comment on function atlas.trim_texts(timestamptz, integer) is
  'Erases the texts of tasks that ended before a time, unless an event of theirs has not arrived yet. Internal.';

-- A reply that is complete stands whole in architect_out: its parts served those who read along. Those of a task that failed are all
-- there is of its text, and stay as long as the task's texts. Tasks are passed in the order in which they were asked; those that are not
-- to be trimmed yet are looked at again.
create table atlas.later_trim (
  task_id uuid primary key,
  due timestamptz not null
);
create index later_trim_due on atlas.later_trim (due);
comment on table atlas.later_trim is 'Tasks whose parts were not to be trimmed yet when their turn came: open, just completed, or ended otherwise.';
comment on column atlas.later_trim.task_id is 'The task; it may be gone.';
comment on column atlas.later_trim.due is 'When it is looked at again.';
alter table atlas.later_trim enable row level security;
grant select on atlas.later_trim to service_role;

create function atlas.trim_parts(p_before timestamptz, p_limit integer) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks uuid[];
  v_done uuid[];
  v_to timestamptz;
begin
  select array_agg(t.id), max(t.queued_at) into v_tasks, v_to
  from (
    select t.id, t.queued_at from atlas.task t
    where t.queued_at > (select c.parts_trimmed_to from atlas.control c) and t.queued_at < p_before
    -- those that were asked in one statement have one time
    order by t.queued_at fetch first p_limit rows with ties) t;
  if v_to is not null then
    update atlas.control set parts_trimmed_to = v_to;
  end if;
  with due as (
    delete from atlas.later_trim l where l.task_id = any (array(
      select x.task_id from atlas.later_trim x where x.due < now() order by x.due limit p_limit for update skip locked))
    returning l.task_id)
  select coalesce(v_tasks, '{}') || array(select due.task_id from due) into v_tasks;
  if cardinality(v_tasks) = 0 then
    return 0;
  end if;
  v_done := array(select t.id from atlas.task t where t.id = any (v_tasks) and t.state = 'completed' and t.finished_at < p_before);
  delete from atlas.reply_part p where p.task_id = any (v_done);
  insert into atlas.later_trim (task_id, due)
  select t.id, case when t.state = 'completed' then t.finished_at + (now() - p_before)
    -- it may be tried again by hand
    when t.finished_at is not null then now() + interval '7 days' else now() + interval '1 day' end
  from atlas.task t where t.id = any (v_tasks) and t.id <> all (v_done) and t.erased_at is null
  on conflict (task_id) do update set due = excluded.due;
  return cardinality(v_done);
end
$$;
comment on function atlas.trim_parts(timestamptz, integer) is
  'Deletes the parts of the next replies that were complete before a time. Internal.';

create function atlas.trim_history(p_limit integer default 200) returns table (tasks integer, texts integer, parts integer)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set jit = off
as $$
declare
  v_keep record;
  v_limit constant integer := least(greatest(p_limit, 1), 1000);
begin
  tasks := 0; texts := 0; parts := 0;
  -- one of the fleet at a time
  if pg_try_advisory_xact_lock(hashtextextended('atlas.trim_history', 0)) then
    select c.keep_tasks, c.keep_texts into v_keep from atlas.control c;
    if v_keep.keep_tasks is not null then
      tasks := atlas.trim_tasks(now() - v_keep.keep_tasks, v_limit);
    end if;
    if v_keep.keep_texts is not null then
      texts := atlas.trim_texts(now() - v_keep.keep_texts, v_limit);
    end if;
    parts := atlas.trim_parts(now() - interval '1 day', v_limit);
  end if;
  return next;
end
$$;
comment on function atlas.trim_history(integer) is
  'Trims what the retention no longer keeps, at most so many of each: tasks; texts of tasks; parts of replies that were complete a day ago.';
grant execute on function atlas.trim_history(integer) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

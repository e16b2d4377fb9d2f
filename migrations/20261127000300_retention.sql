-- Retention: ended tasks lose their texts, and go, as old as the policy says. Spend and audit stay.
--
-- locks: atlas.control AccessExclusiveLock, atlas.task AccessExclusiveLock, public.architect_in AccessExclusiveLock: changes of the
-- catalog alone; atlas.outbox ShareLock: an index is built, some 2 s a million rows, until which replies wait

-- What a reply's row is referred to by: without it each row that is trimmed would read the whole table.
create index outbox_message on atlas.outbox (out_id) where out_id is not null;

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
comment on column atlas.control.parts_trimmed_to is 'Parts of completed replies to questions up to this time were trimmed.';
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
  'How long ended tasks stay, and how long their texts do; null: forever. Workers trim what is older, some each minute.';
grant execute on function atlas.set_retention(interval, interval) to service_role;

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
      and not exists (select from atlas.spend s where s.task_id = t.id and s.state <> 'settled')
      and not exists (select from atlas.outbox o where o.task_id in (t.id, t.message_task_id) and o.state = 'pending'
        and o.destination_id is not null)
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
    where o.task_id = any (v_messages) and not exists (select from atlas.task t where t.id = o.task_id));
  delete from atlas.outbox o where o.out_id = any (v_out);
  delete from public.architect_out o where o.id = any (v_out);
  delete from public.architect_in i where i.id = any (v_in);
  perform atlas.append_audits('trim_task', v_tasks, array_fill(jsonb '{}', array[cardinality(v_tasks)]));
  return cardinality(v_tasks);
end
$$;
comment on function atlas.trim_tasks(timestamptz, integer) is
  'Deletes tasks that ended before a time, with their attempts, parts and messages, unless a call or an event of theirs is open. Internal.';

create function atlas.trim_texts(p_before timestamptz, p_limit integer) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks constant uuid[] := array(
    select t.id from atlas.task t
    where t.title <> '[erased]' and t.queued_at < p_before and t.finished_at < p_before
      and not exists (select from atlas.outbox o where o.task_id in (t.id, t.message_task_id) and o.state = 'pending'
        and o.destination_id is not null)
    order by t.queued_at limit p_limit for no key update skip locked);
begin
  if cardinality(v_tasks) > 0 then
    perform atlas.erase_texts(v_tasks);
  end if;
  return cardinality(v_tasks);
end
$$;
comment on function atlas.trim_texts(timestamptz, integer) is
  'Erases the texts of tasks that ended before a time, unless an event of theirs is not sent yet. Internal.';

-- A reply that is complete stands whole in architect_out: its parts served those who read along. Those of a task that failed are all
-- there is of its text, and stay as long as the task's texts.
create function atlas.trim_parts(p_before timestamptz, p_limit integer) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks uuid[];
  v_to timestamptz;
begin
  select array_agg(t.id) filter (where t.state = 'completed'), max(t.queued_at) into v_tasks, v_to
  from (
    select t.id, t.state, t.queued_at from atlas.task t
    where t.queued_at > (select c.parts_trimmed_to from atlas.control c) and t.queued_at < p_before
    -- those that were asked in one statement have one time
    order by t.queued_at fetch first p_limit rows with ties) t;
  if v_to is null then
    return 0;
  end if;
  update atlas.control set parts_trimmed_to = v_to;
  delete from atlas.reply_part p where p.task_id = any (v_tasks);
  return coalesce(cardinality(v_tasks), 0);
end
$$;
comment on function atlas.trim_parts(timestamptz, integer) is
  'Deletes the parts of the next completed replies that were asked for before a time. Internal.';

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

-- 2: workers call atlas.trim_history. Those of 0.4 speak 1, and go on.
create or replace function atlas.protocols() returns int4range
language sql immutable parallel safe set search_path = ''
as $$ select int4range(1, 2, '[]') $$;
comment on function atlas.protocols() is
  'Versions of the protocol that these functions serve: that of this release, and that of the release before it.';

revoke execute on all functions in schema atlas, rag from public;

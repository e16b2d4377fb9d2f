-- Progress: what a running reply leaves behind, and the stream that people follow.

create table atlas.reply_part (
  attempt_id uuid not null references atlas.attempt (id),
  generation integer not null check (generation >= 0),
  "offset" integer not null check ("offset" >= 0),
  seq integer not null default 0 check (seq >= 0),
  text text not null check (text <> ''),
  inherited boolean not null default false,
  task_id uuid not null references atlas.task (id),
  created_at timestamptz not null default now(),
  primary key (attempt_id, generation, "offset")
);
create index reply_part_task on atlas.reply_part (task_id);
comment on table atlas.reply_part is 'The reply while it is written. Insert-only; read by attempt, generation, offset.';
comment on column atlas.reply_part.attempt_id is 'The attempt it belongs to.';
comment on column atlas.reply_part.generation is 'Rises with each fallback or repair.';
comment on column atlas.reply_part."offset" is 'Unicode code points of this generation before this part.';
comment on column atlas.reply_part.text is 'The text of the part.';
comment on column atlas.reply_part.inherited is 'It repeats what a lost attempt had of the same response: readers have it already.';
comment on column atlas.reply_part.task_id is 'The task it belongs to.';
comment on column atlas.reply_part.created_at is 'When the row was written.';
comment on column atlas.reply_part.seq is 'Which part of its attempt, from 1; rises over generations.';
alter table atlas.reply_part enable row level security;
create policy "people see the replies of tasks they see" on atlas.reply_part for select to authenticated
  using (exists (select from atlas.task t where t.id = reply_part.task_id));
comment on policy "people see the replies of tasks they see" on atlas.reply_part is 'Row level security: people see the replies of tasks they see.';
grant select on atlas.reply_part to authenticated;
grant select on atlas.reply_part to service_role;

-- Everything a running reply leaves behind, of many attempts in one commit. An item is
-- {"attempt_id", "call", "generation", "response_id", "resumable", "sequence_number", "offset", "text", "inherited", "response_offset"}.
create function atlas.record_progress(p_items jsonb, p_rate double precision default 80) returns table (attempt_id uuid)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
  held uuid[];
begin
  select array_agg(r.id) into held from (
    select a.id from atlas.attempt a
    where a.id = any (array(select (i ->> 'attempt_id')::uuid from jsonb_array_elements(p_items) i)) and a.state = 'running'
    order by a.id for no key update) r;
  if held is null then
    return;
  end if;
  with item as materialized (
    select i.* from jsonb_to_recordset(p_items) as i (attempt_id uuid, call integer, generation integer,
      response_id text, resumable boolean, sequence_number bigint, "offset" integer, text text, model text, inherited boolean, response_offset integer)
    where i.attempt_id = any (held)
  ),
  at as (
    update atlas.attempt a set generation = i.generation, response_id = i.response_id, model = i.model,
      response_offset = coalesce(i.response_offset, 0),
      sequence_number = case when i.response_id is distinct from a.response_id then i.sequence_number
                             else greatest(a.sequence_number, i.sequence_number) end,
      first_delta_at = coalesce(a.first_delta_at, case when i.text <> '' then now() end)
    from (select distinct on (item.attempt_id) item.* from item
          order by item.attempt_id, item.generation desc, item."offset" desc) i
    where a.id = i.attempt_id and a.id = any (held)
    returning a.id, a.task_id
  ),
  responses as (
    update atlas.spend s set response_id = case when i.resumable then i.response_id else s.response_id end, unstored = not i.resumable
    from item i
    where s.attempt_id = any (held) and s.attempt_id = i.attempt_id and s.call = i.call and s.corrects is null and s.state = 'reserved'
      and (s.unstored = i.resumable or (i.resumable and s.response_id is distinct from i.response_id))
  )
  insert into atlas.reply_part (attempt_id, generation, "offset", text, inherited, task_id)
  select i.attempt_id, i.generation, i."offset", i.text, coalesce(i.inherited, false), at.task_id
  from item i join at on at.id = i.attempt_id where i.text <> ''
  on conflict do nothing;
  perform atlas.broadcast_parts(held, p_rate);
  return query select unnest(held);
end
$$;
comment on function atlas.record_progress(jsonb, double precision) is
  'Stores response ids, sequence numbers and text of running replies; answers with the attempts still held. p_rate: Realtime events a second that the whole project may have.';
grant execute on function atlas.record_progress(jsonb, double precision) to service_role, atlas_worker;

-- A reservation whose response was begun passes on from the lost attempt, as call 0 of the new one; of several the one that the
-- provider told of, also when its call had been given up.
create function atlas.inherit_responses(p_tasks uuid[]) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks uuid[];
  details jsonb[];
begin
  with moved as (
    update atlas.spend s set attempt_id = t.attempt_id, call = 0, left_at = null
    from atlas.task t
    where t.id = any (p_tasks) and t.attempts > 1 and s.task_id = any (p_tasks) and s.id = (
      select o.id from atlas.spend o
      where o.task_id = t.id and o.corrects is null and o.response_id is not null and (o.state = 'reserved'
        or (o.state = 'settled' and o.adopted_at is not null and o.known in ('presumed_none', 'unknown')))
      order by (o.adopted_at is not null) desc, o.id desc limit 1)
    returning s.task_id, s.id, s.response_id, t.attempts, t.attempt_id
  )
  select array_agg(m.task_id), array_agg(jsonb_build_object('attempt', m.attempts, 'spend_id', m.id, 'response', m.response_id,
      'worker', (select a.lease_owner from atlas.attempt a where a.id = m.attempt_id)))
    into v_tasks, details from moved m;
  if v_tasks is not null then
    perform atlas.append_audits('inherit_response', v_tasks, details);
  end if;
end
$$;
comment on function atlas.inherit_responses(uuid[]) is
  'Hands a response that a lost attempt had begun to the attempt that has just been claimed. Internal.';

create function atlas.inherited_response(p_task atlas.task) returns jsonb
language sql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
  select jsonb_build_object('spend_id', k.id, 'model', k.model,
    'response_id', k.response_id, 'reserved_tokens', k.reserved_tokens,
    'age_seconds', extract(epoch from now() - k.reserved_at), 'completion_window', k.completion_window,
    'sequence_number', l.sequence_number, 'response_offset', coalesce(l.response_offset, 0), 'text', coalesce((
      select string_agg(p.text, '' order by p."offset") from atlas.reply_part p
      where p.attempt_id = l.id and p.generation = l.generation), ''))
  from atlas.spend k
  left join lateral (
    select e.id, e.generation, e.sequence_number, e.response_offset from atlas.attempt e
    where e.task_id = p_task.id and e.number < p_task.attempts and e.response_id = k.response_id
    order by e.number desc limit 1) l on true
  where k.attempt_id = p_task.attempt_id and k.corrects is null
$$;
comment on function atlas.inherited_response(atlas.task) is
  'The response that an attempt that has just been claimed goes on with, and how far its text had come; null: none. Internal.';

create function atlas.number_part() returns trigger
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan
as $$
begin
  select p.seq + 1 into new.seq from atlas.reply_part p where p.attempt_id = new.attempt_id
  order by p.generation desc, p."offset" desc limit 1;
  new.seq := coalesce(new.seq, 1);
  return new;
end
$$;
comment on function atlas.number_part() is 'Numbers the parts of an attempt.';

create trigger number_part before insert on atlas.reply_part for each row execute function atlas.number_part();
comment on trigger number_part on atlas.reply_part is 'Numbers the parts of an attempt.';

create function atlas.read_parts(p_task_id uuid, p_attempt integer default 0, p_generation integer default 0,
  p_offset integer default -1)
returns table (attempt integer, generation integer, seq integer, "offset" integer, text text)
language sql stable set search_path = ''
as $$
  select a.number, p.generation, p.seq, p."offset", p.text
  from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id
  where p.task_id = p_task_id and (a.number, p.generation, p."offset") > (p_attempt, p_generation, p_offset)
  order by 1, 2, 4
$$;
comment on function atlas.read_parts(uuid, integer, integer, integer) is
  'The parts of a running reply after a place, in order: a reader that joins late, or lost its socket, goes on from here.';
grant execute on function atlas.read_parts(uuid, integer, integer, integer) to authenticated, service_role;

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
    delete from realtime.messages m where m.inserted_at < now() at time zone 'UTC' - atlas.bounded(p_keep, '1 hour', '10 years');
    get diagnostics n = row_count;
  end if;
  return n;
end
$$;
comment on function atlas.trim_messages(interval) is
  'Forgets Realtime messages that are older than that, where the table is a plain one; says how many.';
grant execute on function atlas.trim_messages(interval) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

-- Work items: who works on what a record or a plan asks for, how far it is, and what was done otherwise than decided. The items
-- themselves stand in the reply (metadata.work_items); here is their state.
--
-- locks: atlas.task ShareRowExclusiveLock, atlas.decision ShareRowExclusiveLock: changes of the catalog alone

create table atlas.work_item (
  task_id uuid not null references atlas.task (id) on delete cascade,
  number integer not null check (number between 1 and 200),
  state text not null check (state in ('taken', 'done', 'blocked', 'dropped')),
  taken_by text not null,
  taken_at timestamptz not null default now(),
  decision_seen text,
  commit text check (commit ~ '^[0-9a-f]{7,64}$'),
  note text check (length(note) <= 4000),
  updated_at timestamptz not null default now(),
  primary key (task_id, number)
);
comment on table atlas.work_item is 'The state of work items that somebody has taken; the others are open.';
comment on column atlas.work_item.task_id is 'The task whose reply asks for it.';
comment on column atlas.work_item.number is 'Its place in the reply, from 1.';
comment on column atlas.work_item.state is 'taken, done, blocked or dropped.';
comment on column atlas.work_item.taken_by is 'Who works on it: user:<id> of a login, else role:<database role>.';
comment on column atlas.work_item.taken_at is 'Since when.';
comment on column atlas.work_item.decision_seen is 'How the decision stood when it was taken, such as accepted.';
comment on column atlas.work_item.commit is 'The commit that does it.';
comment on column atlas.work_item.note is 'What whoever works on it says of it.';
comment on column atlas.work_item.updated_at is 'When it was last reported on.';
alter table atlas.work_item enable row level security;
create policy "work items follow their task" on atlas.work_item for select to authenticated
  using (exists (select from atlas.task t where t.id = task_id));
comment on policy "work items follow their task" on atlas.work_item is 'Row level security: work items follow their task.';
grant select on atlas.work_item to authenticated, service_role;

create table atlas.deviation (
  id bigint generated always as identity primary key,
  project_id uuid not null,
  number integer not null,
  task_id uuid not null,
  item integer not null,
  constraint_text text not null check (length(constraint_text) <= 2000),
  reason text not null check (reason <> '' and length(reason) <= 2000),
  commit text,
  reported_by text not null,
  reported_at timestamptz not null default now(),
  foreign key (project_id, number) references atlas.decision (project_id, number) on delete cascade
);
create index deviation_decision on atlas.deviation (project_id, number);
comment on table atlas.deviation is 'Where work was done otherwise than a decision''s constraint asks for, and why.';
comment on column atlas.deviation.id is 'Its number.';
comment on column atlas.deviation.project_id is 'The project of the decision.';
comment on column atlas.deviation.number is 'The decision.';
comment on column atlas.deviation.task_id is 'The task whose work item it was.';
comment on column atlas.deviation.item is 'The work item.';
comment on column atlas.deviation.constraint_text is 'The constraint.';
comment on column atlas.deviation.reason is 'Why it does not hold there.';
comment on column atlas.deviation.commit is 'The commit.';
comment on column atlas.deviation.reported_by is 'Who said so.';
comment on column atlas.deviation.reported_at is 'When.';
alter table atlas.deviation enable row level security;
create policy "people see deviations of their projects" on atlas.deviation for select to authenticated
  using (project_id in (select atlas.my_projects()));
comment on policy "people see deviations of their projects" on atlas.deviation is 'Row level security: people see deviations of their projects.';
grant select on atlas.deviation to authenticated, service_role;

create function atlas.planned_items(p_task uuid, p_verb text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  t atlas.task;
  items jsonb;
begin
  select x.* into t from atlas.task x where x.id = p_task;
  if not found or not (atlas.is_service() or atlas.owns_task(p_task)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task), hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  select o.data #> '{metadata,work_items}' into items from public.architect_out o where o.id = t.out_id;
  if jsonb_typeof(items) is distinct from 'array' or jsonb_array_length(items) = 0 then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s has no work items', p_verb, p_task),
      hint = 'ask for a plan: `atlas ask --kind plan`';
  end if;
  return items;
end
$$;
comment on function atlas.planned_items(uuid, text) is 'The work items of a reply that the caller may read; AT004 and AT005 say why not. Internal.';

create function atlas.decision_of(p_task uuid) returns text
language sql stable security definer set search_path = ''
as $$
  select format('ADR-%s %s%s', d.number, d.status, coalesce(' by ADR-' || d.superseded_by, '')) from atlas.decision d where d.task_id = p_task
$$;
comment on function atlas.decision_of(uuid) is 'How the decision on a task''s reply stands; null where nobody decided. Internal.';

create function atlas.work_items(p_task uuid) returns table (number integer, title text, state text, taken_by text, taken_at timestamptz, commit text, note text,
  depends_on integer[], item jsonb, decision text)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select i.place::integer, i.one ->> 'title', coalesce(w.state, 'open'), w.taken_by, w.taken_at, w.commit, w.note,
    array(select e::integer from jsonb_array_elements_text(case jsonb_typeof(i.one -> 'depends_on') when 'array' then i.one -> 'depends_on' else '[]' end) e
      where e ~ '^\d{1,4}$'),
    i.one, atlas.decision_of(p_task)
  from jsonb_array_elements(atlas.planned_items(p_task, 'work_items')) with ordinality as i (one, place)
  left join atlas.work_item w on w.task_id = p_task and w.number = i.place
  order by i.place;
end
$$;
comment on function atlas.work_items(uuid) is 'The work items of a reply, with how far each is: open, taken, done, blocked, dropped. For who may read it.';
grant execute on function atlas.work_items(uuid) to authenticated, service_role;

create function atlas.take_work_item(p_task uuid, p_number integer) returns atlas.work_item
language plpgsql security definer set search_path = ''
as $$
declare
  items jsonb := atlas.planned_items(p_task, 'take_work_item');
  v_decision text := atlas.decision_of(p_task);
  v_waits integer;
  found_item atlas.work_item;
begin
  perform 1 from atlas.task t where t.id = p_task for no key update;
  if p_number not between 1 and jsonb_array_length(items) then
    raise exception using errcode = 'AT004', message = format('task %s has no work item %s', p_task, p_number),
      hint = format('it has %s', jsonb_array_length(items));
  end if;
  if v_decision is not null and v_decision !~ ' accepted$' then
    raise exception using errcode = 'AT005', message = format('take_work_item: %s', v_decision), hint = 'work on what holds: see `atlas decisions`';
  end if;
  if v_decision is null and exists (select from atlas.open_draft d where d.task_id = p_task) then
    raise exception using errcode = 'AT005', message = format('take_work_item: the record of task %s is not accepted yet', p_task),
      hint = 'a decider accepts it: `atlas accept`';
  end if;
  select min(n.number) into v_waits from atlas.work_items(p_task) w cross join unnest(w.depends_on) as n (number)
  left join atlas.work_item o on o.task_id = p_task and o.number = n.number
  where w.number = p_number and n.number < p_number and o.state is distinct from 'done' and o.state is distinct from 'dropped';
  if v_waits is not null then
    raise exception using errcode = 'AT005', message = format('take_work_item: item %s depends on item %s, which is not done', p_number, v_waits),
      hint = 'take that one first';
  end if;
  insert into atlas.work_item as w (task_id, number, state, taken_by, decision_seen) values (p_task, p_number, 'taken', atlas.actor(), v_decision)
  on conflict (task_id, number) do update set state = 'taken', taken_by = excluded.taken_by, taken_at = now(), updated_at = now(),
    decision_seen = excluded.decision_seen
  where w.state = 'dropped' or w.taken_by = excluded.taken_by and w.state <> 'done' or w.taken_by like 'github:%' and w.state = 'taken'
  returning w.* into found_item;
  if found_item is null then
    select w.* into found_item from atlas.work_item w where w.task_id = p_task and w.number = p_number;
    raise exception using errcode = 'AT005', message = format('take_work_item: item %s is %s, by %s', p_number, found_item.state, found_item.taken_by),
      hint = 'take another one: atlas.work_items shows which are open';
  end if;
  perform atlas.append_audit(p_task, 'take_work_item', jsonb_build_object('item', p_number));
  return found_item;
end
$$;
comment on function atlas.take_work_item(uuid, integer) is
  'The caller works on an item from now on. Of an accepted record or a plan, where what it depends on is done; AT005 says who else has it.';
grant execute on function atlas.take_work_item(uuid, integer) to authenticated, service_role;

create function atlas.report_work_item(p_task uuid, p_number integer, p_state text, p_commit text default null, p_note text default null,
  p_deviations jsonb default '[]') returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  item atlas.work_item;
  d atlas.decision;
  one jsonb;
begin
  perform atlas.planned_items(p_task, 'report_work_item');
  select w.* into item from atlas.work_item w where w.task_id = p_task and w.number = p_number for no key update;
  if not found then
    raise exception using errcode = 'AT005', message = format('report_work_item: nobody has taken item %s of task %s', p_number, p_task),
      hint = 'take it first: atlas.take_work_item';
  end if;
  if item.taken_by <> atlas.actor() and not atlas.is_service() then
    raise exception using errcode = 'AT006', message = format('report_work_item: item %s is %s''s', p_number, item.taken_by), hint = 'whoever took it reports on it';
  end if;
  if p_state is null or p_state not in ('taken', 'done', 'blocked', 'dropped') then
    perform atlas.refuse('state', format('%s is not known', coalesce(p_state, 'null')), 'send taken, done, blocked or dropped', 'AT001', 'report_work_item');
  end if;
  if p_commit !~ '^[0-9a-f]{7,64}$' then
    perform atlas.refuse('commit', 'is not the hash of a commit', 'send 7 to 64 hexadecimal digits', 'AT001', 'report_work_item');
  end if;
  if length(p_note) > 4000 then
    perform atlas.refuse('note', 'is longer than 4,000 characters', 'send its gist', 'AT001', 'report_work_item');
  end if;
  if jsonb_typeof(p_deviations) is distinct from 'array' or jsonb_array_length(p_deviations) > 50 then
    perform atlas.refuse('deviations', 'must be a list of at most 50', 'send [{"constraint", "reason"}]', 'AT001', 'report_work_item');
  end if;
  select x.* into d from atlas.decision x where x.task_id = p_task;
  for one in select e from jsonb_array_elements(p_deviations) e loop
    if d.number is null then
      perform atlas.refuse('deviations', 'are from constraints of a decision, and this is a plan', 'say it in the note', 'AT001', 'report_work_item');
    end if;
    if not coalesce(one ->> 'constraint' = any (d.constraints), false) then
      perform atlas.refuse('deviations', format('names no constraint of ADR-%s: %s', d.number, left(coalesce(one ->> 'constraint', 'null'), 100)),
        'send a constraint as the decision has it', 'AT001', 'report_work_item');
    end if;
    if coalesce(one ->> 'reason', '') = '' or length(one ->> 'reason') > 2000 then
      perform atlas.refuse('deviations', 'needs a reason of at most 2,000 characters', 'say why it does not hold there', 'AT001', 'report_work_item');
    end if;
    insert into atlas.deviation (project_id, number, task_id, item, constraint_text, reason, commit, reported_by)
    values (d.project_id, d.number, p_task, p_number, one ->> 'constraint', one ->> 'reason', p_commit, atlas.actor());
  end loop;
  update atlas.work_item w set state = p_state, commit = coalesce(p_commit, w.commit), note = coalesce(p_note, w.note), updated_at = now()
  where w.task_id = p_task and w.number = p_number;
  perform atlas.append_audit(p_task, 'report_work_item', jsonb_strip_nulls(jsonb_build_object('item', p_number, 'state', p_state, 'commit', p_commit,
    'deviations', nullif(jsonb_array_length(p_deviations), 0))));
  return jsonb_strip_nulls(jsonb_build_object('number', p_number, 'state', p_state, 'decision', atlas.decision_of(p_task), 'changed',
    case when atlas.decision_of(p_task) is distinct from item.decision_seen then
      format('%s when you took the item, %s now: read it again before you go on', coalesce(item.decision_seen, 'not decided'), atlas.decision_of(p_task)) end));
end
$$;
comment on function atlas.report_work_item(uuid, integer, text, text, text, jsonb) is
  'How far an item is: state, commit, note, and deviations [{"constraint", "reason"}], which are recorded on the decision. By who took it. "changed" says that
the decision is not what it was when the item was taken.';
grant execute on function atlas.report_work_item(uuid, integer, text, text, text, jsonb) to authenticated, service_role;

-- What becomes of a record's pull request and of issues filed from work items, as the router hears it.
create function atlas.hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_task uuid;
  d atlas.decision;
begin
  select p.task_id into v_task from atlas.post p where p.part = 'pull_request' and p.address = p_address and p.external_id = p_number and p.state = 'posted';
  if v_task is null then
    return jsonb_build_object('ignored', 'not a pull request of a record');
  end if;
  d := atlas.decide(v_task, case when p_merged then 'accepted' else 'rejected' end, case when p_merged then 'accept' else 'reject' end,
    left(format('%s was %s by %s', p_url, case when p_merged then 'merged' else 'closed' end, p_login), 2000), '{}');
  update atlas.decision x set decided_by = left('github:' || p_login, 200) where x.task_id = v_task and x.decided_by = atlas.actor();
  return jsonb_build_object('task_id', v_task, 'number', d.number, 'status', d.status);
exception when sqlstate 'AT005' or sqlstate 'AT004' then
  return jsonb_build_object('ignored', sqlerrm);
end
$$;
comment on function atlas.hear_pull(text, text, boolean, text, text) is
  'The pull request of a record was merged, which accepts it, or closed, which rejects it. What is decided already stays so.';
grant execute on function atlas.hear_pull(text, text, boolean, text, text) to service_role;

create function atlas.hear_issue(p_address text, p_number text, p_state text, p_login text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_task uuid;
  v_item integer;
begin
  select p.task_id, 1 + substr(p.part, 7)::integer into v_task, v_item from atlas.post p
  where p.part ~ '^issue:\d{1,3}$' and p.address = p_address and p.external_id = p_number and p.state = 'posted';
  if v_task is null or not exists (select from atlas.task t where t.id = v_task) then
    return jsonb_build_object('ignored', 'not an issue of a work item');
  end if;
  insert into atlas.work_item as w (task_id, number, state, taken_by, decision_seen)
  values (v_task, v_item, p_state, left('github:' || p_login, 200), atlas.decision_of(v_task))
  on conflict (task_id, number) do update set state = excluded.state, updated_at = now();
  perform atlas.append_audit(v_task, 'report_work_item', jsonb_build_object('item', v_item, 'state', p_state, 'by', left('github:' || p_login, 200)));
  return jsonb_build_object('task_id', v_task, 'item', v_item, 'state', p_state);
end
$$;
comment on function atlas.hear_issue(text, text, text, text) is 'An issue that was filed from a work item was closed or reopened: the item is done, dropped, or taken again.';
grant execute on function atlas.hear_issue(text, text, text, text) to service_role;

create function atlas.read_source(p_sha256 text) returns table (source text, heading text, start_line integer, end_line integer, text text)
language sql stable set search_path = ''
as $$
  select d.source, p.heading, c.start_line, c.end_line, p.text
  from rag.passage p join rag.chunk c on c.passage_id = p.id join rag.document d on d.id = c.document_id
  where p.sha256 = case when p_sha256 ~ '^[0-9a-f]{64}$' then decode(p_sha256, 'hex') end
  order by d.source, c.seq limit 20
$$;
comment on function atlas.read_source(text) is 'A passage by its hash, and where it stands: of documents that the caller may read.';
grant execute on function atlas.read_source(text) to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;

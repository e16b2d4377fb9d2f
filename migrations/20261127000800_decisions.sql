-- Decisions: what a project made of the records that it was given. A reply is a draft; who may decide accepts or rejects it, and it gets
-- a number in its project. A decision keeps its own text: it outlasts the retention of its task, and goes when that task is erased.
--
-- locks: atlas.project ShareRowExclusiveLock, atlas.member AccessExclusiveLock, atlas.outbox AccessExclusiveLock: changes of the catalog alone

-- squawk-ignore ban-drop-constraint
alter table atlas.member drop constraint member_role_check;
alter table atlas.member add constraint member_role_check check (role in ('member', 'decider', 'admin')) not valid;
comment on column atlas.member.role is 'member reads the project; decider accepts, rejects and supersedes too; admin also sets its budget.';

-- squawk-ignore ban-drop-constraint
alter table atlas.outbox drop constraint outbox_event_kind_check;
alter table atlas.outbox add constraint outbox_event_kind_check check (event_kind in ('message', 'audit_seal', 'notification', 'progress',
  'export', 'budget.warning', 'budget.spent', 'decision.accepted', 'decision.rejected', 'decision.superseded')) not valid;
comment on column atlas.outbox.event_kind is
  'message (a row of architect_out), audit_seal, notification, progress, export, budget.warning, budget.spent, or decision.accepted, .rejected or .superseded.';

create or replace function atlas.matches(filter jsonb, event_kind text, data jsonb, sender text) returns boolean
language sql immutable set search_path = ''
as $$
  select atlas.wants(filter -> 'msg_type', data ->> 'msg_type')
    and atlas.wants(filter -> 'status', data #>> '{metadata,status}')
    and atlas.wants(filter -> 'sender', sender)
    and case when filter ? 'kind'
        then atlas.wants(filter -> 'kind', event_kind) or atlas.wants(filter -> 'kind', data #>> '{metadata,kind}')
        -- who names no kind gets what is of interest to everybody
        else event_kind in ('message', 'audit_seal', 'budget.warning', 'budget.spent', 'decision.accepted', 'decision.rejected',
          'decision.superseded') end
$$;
comment on function atlas.matches(jsonb, text, jsonb, text) is
  'Whether a destination wants an event. kind: message, audit_seal, notification, progress, export,
budget.warning, budget.spent, decision.accepted, decision.rejected, decision.superseded, or a message''s metadata.kind.';

create table atlas.decision (
  project_id uuid not null references atlas.project (id) on delete cascade,
  number integer not null check (number >= 0),
  task_id uuid unique,
  title text not null,
  question text not null default '',
  content text not null,
  constraints text[] not null default '{}',
  paths text[] not null default '{}',
  checks text[] not null default '{}',
  sources text[] not null default '{}',
  file text check (file ~ '^[A-Za-z0-9][^/\\]{0,195}\.md$'),
  status text not null check (status in ('proposed', 'accepted', 'rejected', 'deprecated', 'superseded')),
  superseded_by integer,
  asked_by text not null,
  decided_by text not null,
  decided_at timestamptz not null default now(),
  reason text check (length(reason) <= 2000),
  superseded_at timestamptz,
  superseded_reason text check (length(superseded_reason) <= 2000),
  primary key (project_id, number),
  foreign key (project_id, superseded_by) references atlas.decision (project_id, number) deferrable initially deferred,
  constraint superseded_has_its_successor check ((status = 'superseded') = (superseded_by is not null) and (superseded_by is null) = (superseded_at is null)),
  constraint no_record_supersedes_itself check (superseded_by <> number)
);
comment on table atlas.decision is 'What a project decided of records: each by its number, with who decided it, when and why.';
comment on column atlas.decision.project_id is 'The project that decided.';
comment on column atlas.decision.number is 'Its number in the project, from 1: ADR-7 is 7.';
comment on column atlas.decision.task_id is 'The task whose reply it is; null for one that was imported.';
comment on column atlas.decision.title is 'Its title.';
comment on column atlas.decision.question is 'The question that it answers; empty for one that was imported.';
comment on column atlas.decision.content is 'The record, in Markdown, as it was when it was decided.';
comment on column atlas.decision.constraints is 'What must hold from then on, a sentence each.';
comment on column atlas.decision.paths is 'Globs of the files that it governs.';
comment on column atlas.decision.checks is 'Commands that verify it in a checkout; Atlas itself runs none.';
comment on column atlas.decision.sources is 'What it was written from, each by its hash and place: sha256:<hash> <path>.';
comment on column atlas.decision.file is 'Its file''s name in the folder of records that it was imported from.';
comment on column atlas.decision.status is 'accepted: it holds. rejected. superseded: it held, until another did. Of imported ones also proposed, and deprecated: it holds no longer.';
comment on column atlas.decision.superseded_by is 'The number of the decision that holds instead.';
comment on column atlas.decision.asked_by is 'The sender whose question it answers.';
comment on column atlas.decision.decided_by is 'Who accepted or rejected it: user:<id> of a login, else role:<database role>.';
comment on column atlas.decision.decided_at is 'When it was accepted or rejected.';
comment on column atlas.decision.reason is 'Why, in the words of who decided.';
comment on column atlas.decision.superseded_at is 'When another decision took its place; the audit says who saw to it.';
comment on column atlas.decision.superseded_reason is 'Why that was.';
comment on constraint superseded_has_its_successor on atlas.decision is 'What is superseded says by what.';
comment on constraint no_record_supersedes_itself on atlas.decision is 'Nothing supersedes itself.';
alter table atlas.decision enable row level security;
create policy read_of_my_projects on atlas.decision for select to authenticated
  using (project_id in (select atlas.my_projects()));
grant select on atlas.decision to authenticated, service_role;

create view atlas.decisions with (security_invoker = true) as
select p.name as project, d.number, d.status, d.title, d.superseded_by, d.superseded_at, d.superseded_reason, d.decided_at, d.decided_by, d.reason, d.asked_by,
  d.task_id, d.project_id, d.question, d.constraints, d.paths, d.checks, d.sources, d.file,
  array(select o.number from atlas.decision o where o.project_id = d.project_id and o.superseded_by = d.number order by o.number) as supersedes
from atlas.decision d join atlas.project p on p.id = d.project_id;
comment on view atlas.decisions is 'Decisions by project and number; their texts are in atlas.decision.';
comment on column atlas.decisions.project is 'The name of the project.';
comment on column atlas.decisions.number is 'Its number in the project: ADR-7 is 7.';
comment on column atlas.decisions.status is 'accepted, rejected or superseded; of imported ones also proposed or deprecated.';
comment on column atlas.decisions.title is 'Its title.';
comment on column atlas.decisions.superseded_by is 'The number of the decision that holds instead.';
comment on column atlas.decisions.superseded_at is 'When that took its place.';
comment on column atlas.decisions.superseded_reason is 'Why that was.';
comment on column atlas.decisions.decided_at is 'When it was accepted or rejected.';
comment on column atlas.decisions.decided_by is 'Who accepted or rejected it: user:<id> of a login, else role:<database role>.';
comment on column atlas.decisions.reason is 'Why.';
comment on column atlas.decisions.asked_by is 'The sender whose question it answers.';
comment on column atlas.decisions.task_id is 'The task whose reply it is.';
comment on column atlas.decisions.project_id is 'The project.';
comment on column atlas.decisions.question is 'The question that it answers.';
comment on column atlas.decisions.constraints is 'What must hold from then on, a sentence each.';
comment on column atlas.decisions.paths is 'Globs of the files that it governs.';
comment on column atlas.decisions.checks is 'Commands that verify it in a checkout.';
comment on column atlas.decisions.sources is 'What it was written from: sha256:<hash> <path>.';
comment on column atlas.decisions.file is 'Its file''s name in the folder that it was imported from.';
comment on column atlas.decisions.supersedes is 'The numbers of those that it superseded.';
grant select on atlas.decisions to authenticated, service_role;

create function atlas.require_decider(p_project uuid, p_verb text) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not atlas.is_service() and not exists (
    select from atlas.member m where m.project_id = p_project and m.user_id = atlas.uid() and m.role in ('decider', 'admin')) then
    raise exception using errcode = 'AT006', message = format('%s: you are neither a decider nor an admin of this project', p_verb),
      hint = 'ask one of them, or an operator for `atlas project add … --role decider`';
  end if;
end
$$;
comment on function atlas.require_decider(uuid, text) is 'Raises AT006 unless the caller may decide in a project. Internal.';

-- The reply that is to be decided, with its task locked: decisions of a task come one after the other.
create function atlas.draft(p_task uuid, p_verb text) returns atlas.task
language plpgsql security definer set search_path = ''
as $$
declare
  found_task atlas.task;
  reply jsonb;
begin
  select t.* into found_task from atlas.task t where t.id = p_task for no key update;
  if not found or not (atlas.is_service() or atlas.owns_task(p_task)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task),
      hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  perform atlas.require_decider(found_task.project_id, p_verb);
  select o.data into reply from public.architect_out o where o.id = found_task.out_id;
  if found_task.kind <> 'chat' or found_task.state <> 'completed' or reply ->> 'msg_type' is distinct from 'spec' then
    raise exception using errcode = 'AT005', message = format('%s: task %s is %s', p_verb, p_task,
      case when found_task.kind <> 'chat' then 'a control message' else found_task.state end),
      hint = 'a question that was answered can be decided';
  end if;
  if found_task.erased_at is not null then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s was erased', p_verb, p_task), hint = 'ask again';
  end if;
  if reply #>> '{metadata,truncated}' = 'true' then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s was cut by its budget', p_verb, p_task),
      hint = 'raise the budget, and ask again';
  end if;
  if reply #>> '{metadata,replays}' is not null then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s is a replay of another', p_verb, p_task),
      hint = 'decide on the reply that it replays';
  end if;
  if coalesce(reply #>> '{metadata,kind}', 'adr') <> 'adr' then
    raise exception using errcode = 'AT005',
      message = format('%s: the reply of task %s is %s, and proposes nothing', p_verb, p_task,
        case reply #>> '{metadata,kind}' when 'passages' then 'a list of passages' when 'answer' then 'an answer'
          when 'decided' then 'a decision already' else 'a ' || (reply #>> '{metadata,kind}') end),
      hint = 'ask for a record: `atlas ask --kind adr`, with a model';
  end if;
  return found_task;
end
$$;
comment on function atlas.draft(uuid, text) is 'The task whose reply somebody decides on; AT004, AT005 and AT006 say why not. Internal.';

create function atlas.texts_of(p_list jsonb) returns text[]
language sql immutable parallel safe set search_path = ''
as $$
  select coalesce(array_agg(left(e.item #>> '{}', 2000) order by e.place), '{}')
  from jsonb_array_elements(case jsonb_typeof(p_list) when 'array' then p_list else '[]' end) with ordinality as e (item, place)
  where jsonb_typeof(e.item) = 'string' and e.place <= 200
$$;
comment on function atlas.texts_of(jsonb) is 'The strings of a JSON list. Internal.';

create function atlas.next_decision(p_project uuid) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  found_number integer;
begin
  -- one number after the other; tasks of the project, whose key lock this is not in the way of, go on
  perform 1 from atlas.project p where p.id = p_project for no key update;
  select coalesce(max(d.number), 0) + 1 into found_number from atlas.decision d where d.project_id = p_project;
  return found_number;
end
$$;
comment on function atlas.next_decision(uuid) is 'The next number of a project, which the caller''s transaction holds. Internal.';

create function atlas.announce_decision(p_decision atlas.decision, p_event text) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_facts constant jsonb := jsonb_strip_nulls(jsonb_build_object('project_id', p_decision.project_id, 'number', p_decision.number,
    'superseded_by', p_decision.superseded_by));
begin
  if exists (select from atlas.task t where t.id = p_decision.task_id) then
    perform atlas.append_audit(p_decision.task_id, p_event, v_facts);
  else
    perform atlas.append_audit(null, p_event, v_facts);
  end if;
  perform atlas.emit('decision.' || p_decision.status, v_facts || jsonb_strip_nulls(jsonb_build_object('task_id', p_decision.task_id,
    'project', (select p.name from atlas.project p where p.id = p_decision.project_id), 'title', p_decision.title,
    'decided_by', atlas.actor(), 'reason', case p_decision.status when 'superseded' then p_decision.superseded_reason else p_decision.reason end)),
    p_decision.task_id);
end
$$;
comment on function atlas.announce_decision(atlas.decision, text) is 'A decision''s row of the audit, and its event. Internal.';

create function atlas.supersede(p_project uuid, p_number integer, p_by integer, p_reason text default null) returns atlas.decision
language plpgsql security definer set search_path = ''
as $$
declare
  old atlas.decision;
  by_status text;
begin
  perform atlas.require_decider(p_project, 'supersede');
  perform 1 from atlas.project p where p.id = p_project for no key update;
  -- before any decision, as who erases does
  perform rag.lock_terms(rag.scope_of(p_project));
  select d.* into old from atlas.decision d where d.project_id = p_project and d.number = p_number;
  select d.status into by_status from atlas.decision d where d.project_id = p_project and d.number = p_by;
  if length(p_reason) > 2000 then
    perform atlas.refuse('reason', 'is longer than 2,000 characters', 'send its gist', 'AT001', 'supersede');
  end if;
  if old is null or by_status is null then
    raise exception using errcode = 'AT004', message = format('no decision ADR-%s in this project', case when old is null then p_number else p_by end),
      hint = 'see `atlas decisions` for their numbers';
  end if;
  if old.status = 'superseded' and old.superseded_by = p_by then
    return old;
  end if;
  if old.status <> 'accepted' or by_status <> 'accepted' or p_number = p_by then
    raise exception using errcode = 'AT005', message = case
        when p_number = p_by then format('ADR-%s cannot supersede itself', p_number)
        when old.status <> 'accepted' then format('ADR-%s is %s%s', p_number, old.status, coalesce(' by ADR-' || old.superseded_by, ''))
        else format('ADR-%s is %s', p_by, by_status) end,
      hint = 'one accepted decision supersedes another';
  end if;
  update atlas.decision d set status = 'superseded', superseded_by = p_by, superseded_at = now(), superseded_reason = p_reason
  where d.project_id = p_project and d.number = p_number returning d.* into old;
  perform atlas.index_decision(old);
  perform atlas.announce_decision(old, 'supersede');
  return old;
end
$$;
comment on function atlas.supersede(uuid, integer, integer, text) is
  'One accepted decision of a project takes the place of another. For deciders and admins; AT004, AT005 and AT006 say why not.';
grant execute on function atlas.supersede(uuid, integer, integer, text) to authenticated, service_role;

create function atlas.decide(p_task uuid, p_status text, p_verb text, p_reason text, p_supersedes bigint[]) returns atlas.decision
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
  result atlas.decision;
  v_number integer;
begin
  if length(p_reason) > 2000 then
    perform atlas.refuse('reason', 'is longer than 2,000 characters', 'send its gist', 'AT001', p_verb);
  end if;
  if exists (select from unnest(p_supersedes) as old (number) where old.number not between 1 and 2147483647) then
    perform atlas.refuse('supersedes', 'holds what is not a number of a decision', 'see `atlas decisions`', 'AT001', p_verb);
  end if;
  task := atlas.draft(p_task, p_verb);
  perform 1 from atlas.project p where p.id = task.project_id for no key update;
  perform rag.lock_terms(rag.scope_of(task.project_id));
  select x.* into result from atlas.decision x where x.task_id = p_task;
  if found then
    if result.status = p_status then
      perform atlas.supersede(task.project_id, old.number::integer, result.number, p_reason) from unnest(p_supersedes) as old (number);
      return result;
    end if;
    raise exception using errcode = 'AT005',
      message = format('%s: task %s is ADR-%s already, %s%s', p_verb, p_task, result.number, result.status,
        coalesce(' by ADR-' || result.superseded_by, '')),
      hint = case result.status when 'accepted' then 'another decision can supersede it: `atlas supersede`'
                                else 'ask again: a new record can be accepted' end;
  end if;
  v_number := atlas.next_decision(task.project_id);
  insert into atlas.decision (project_id, number, task_id, title, question, content, constraints, paths, checks, sources, status, asked_by,
    decided_by, reason)
  select task.project_id, v_number, p_task, coalesce(nullif(left((regexp_match(x.content, '(?n)^# +(.*\S)'))[1], 500), ''), task.title),
    i.data ->> 'content', x.content, atlas.texts_of(o.data #> '{metadata,record,constraints}'), atlas.texts_of(o.data #> '{metadata,record,paths}'),
    atlas.texts_of(o.data #> '{metadata,record,checks}'), (
      select coalesce(array_agg(format('sha256:%s %s', s.source ->> 'sha256', s.source ->> 'path') order by s.place), '{}')
      from jsonb_array_elements(case jsonb_typeof(o.data #> '{metadata,sources}') when 'array' then o.data #> '{metadata,sources}' else '[]' end)
        with ordinality as s (source, place)
      where s.source -> 'cited' = 'true'),
    p_status, task.sender_key, atlas.actor(), p_reason
  from public.architect_out o join public.architect_in i on i.id = task.in_id cross join lateral (
    -- the opening line is not part of the record
    select substr(o.data ->> 'content', 1 + coalesce(length(o.data #>> '{metadata,read_first,opening}'), 0)) as content) x
  where o.id = task.out_id
  returning * into result;
  delete from atlas.open_draft d where d.task_id = p_task;
  perform atlas.index_decision(result);
  perform atlas.announce_decision(result, p_verb);
  perform atlas.supersede(task.project_id, old.number::integer, v_number, p_reason) from (
    select unnest(p_supersedes) as number
    union
    -- a revision of what holds takes its place
    select d.number from public.architect_out o join atlas.decision d on d.task_id = atlas.as_uuid(o.data #>> '{metadata,revises}')
    where o.id = task.out_id and d.project_id = task.project_id and d.status = 'accepted' and p_status = 'accepted') as old (number);
  return result;
end
$$;
comment on function atlas.decide(uuid, text, text, text, bigint[]) is 'Accepts or rejects the reply of a task. Internal.';

create function atlas.accept(p_task uuid, p_reason text default null, p_supersedes bigint[] default '{}') returns atlas.decision
language sql security definer set search_path = ''
as $$ select * from atlas.decide(p_task, 'accepted', 'accept', p_reason, p_supersedes) $$;
comment on function atlas.accept(uuid, text, bigint[]) is
  'Accepts the reply of a task as a decision of its project, which may supersede others. For deciders and admins; again, it changes nothing.';
grant execute on function atlas.accept(uuid, text, bigint[]) to authenticated, service_role;

create function atlas.reject(p_task uuid, p_reason text default null) returns atlas.decision
language sql security definer set search_path = ''
as $$ select * from atlas.decide(p_task, 'rejected', 'reject', p_reason, '{}') $$;
comment on function atlas.reject(uuid, text) is
  'Rejects the reply of a task, so that nobody has to wonder. For deciders and admins; again, it changes nothing.';
grant execute on function atlas.reject(uuid, text) to authenticated, service_role;

create function atlas.erase_decisions(p_tasks uuid[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  perform rag.drop_documents(d.project_id, array_agg('decision:ADR-' || d.number)) from atlas.decision d where d.task_id = any (p_tasks) group by d.project_id;
  update atlas.decision d set title = '[erased]', question = '', content = '[erased]', reason = null, superseded_reason = null, constraints = '{}',
    paths = '{}', checks = '{}', sources = '{}', file = null
  where d.task_id = any (p_tasks);
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function atlas.erase_decisions(uuid[]) is 'Removes the texts of decisions on the replies of tasks; says how many. Internal: atlas.erase calls it, a retention does not.';

create view atlas.spend_by_decision with (security_invoker = true) as
select s.day, p.name || ' ADR-' || d.number as decision, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls,
  sum(s.input_tokens) as input_tokens, sum(s.cached_tokens) as cached_tokens, sum(s.cache_write_tokens) as cache_write_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd,
  count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.decision d join atlas.project p on p.id = d.project_id join atlas.spend s on s.task_id = d.task_id
where s.state <> 'reserved' group by s.day, p.name, d.number;
comment on view atlas.spend_by_decision is 'Calls a UTC day and decision: what its record cost.';
comment on column atlas.spend_by_decision.day is 'The UTC day.';
comment on column atlas.spend_by_decision.decision is 'Project and number, such as payments ADR-7.';
comment on column atlas.spend_by_decision.calls is 'Model calls.';
comment on column atlas.spend_by_decision.input_tokens is 'Tokens sent.';
comment on column atlas.spend_by_decision.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend_by_decision.cache_write_tokens is 'Those of the input that the provider wrote to its cache.';
comment on column atlas.spend_by_decision.output_tokens is 'Tokens written, reasoning included.';
comment on column atlas.spend_by_decision.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend_by_decision.tokens is 'Input and output together.';
comment on column atlas.spend_by_decision.usd is 'US dollars.';
comment on column atlas.spend_by_decision.unknown_calls is 'Calls of unknown usage: they count at their worst case.';
comment on column atlas.spend_by_decision.held_calls is 'Calls that were sent and not answered: they count at their worst case until their hold ends.';
comment on column atlas.spend_by_decision.held_tokens is 'Tokens that held calls reserve; not among tokens.';
comment on column atlas.spend_by_decision.held_usd is 'US dollars that held calls reserve; not among usd.';
comment on column atlas.spend_by_decision.presumed_calls is 'Calls presumed not made, since nobody heard of them.';
comment on column atlas.spend_by_decision.presumed_usd is 'US dollars that those would have cost at worst; not among usd.';
grant select on atlas.spend_by_decision to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;

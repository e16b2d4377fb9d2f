-- Spend and audit outlast their tasks: what a call cost stays known, by its scopes, when its task was trimmed.
--
-- locks: atlas.spend AccessExclusiveLock, atlas.task AccessExclusiveLock, atlas.attempt AccessExclusiveLock: changes of the catalog alone
-- locks: atlas.spend_by_sender AccessExclusiveLock, atlas.spend_by_project AccessExclusiveLock: changes of the catalog alone

-- squawk-ignore ban-drop-constraint
alter table atlas.spend drop constraint spend_task_id_fkey;
-- squawk-ignore ban-drop-constraint
alter table atlas.spend drop constraint spend_attempt_id_fkey;
comment on column atlas.spend.task_id is 'The task it belongs to; the task may have been trimmed since.';
comment on column atlas.spend.attempt_id is 'The attempt that made the call, or that took it up from a lost one; it may have been trimmed since.';

create function atlas.my_scopes() returns text[]
language sql stable security definer set search_path = ''
as $$
  select array['sender:' || atlas.uid()::text] || array(select 'project:' || p::text from atlas.my_projects() p)
$$;
comment on function atlas.my_scopes() is 'The budget scopes whose calls the calling user may see: their own, and those of their projects.';
grant execute on function atlas.my_scopes() to authenticated, service_role;

drop policy "people see the spend of tasks they see" on atlas.spend;
create policy "people see their own and their projects' spend" on atlas.spend for select to authenticated
  using (scopes && (select atlas.my_scopes()));
comment on policy "people see their own and their projects' spend" on atlas.spend is
  'Row level security: people see their own and their projects'' spend, also of tasks that were trimmed.';

-- Scopes stand in the order of atlas.scopes_of: global, project, sender, model.
create or replace view atlas.spend_by_sender with (security_invoker = true) as
select s.day, substr(s.scopes[3], 8) as sender_key, substr(s.scopes[2], 9)::uuid as project_id,
  count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd, sum(s.cached_tokens) as cached_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  sum(s.cache_write_tokens) as cache_write_tokens,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.spend s
where s.state <> 'reserved' group by s.day, s.scopes[3], s.scopes[2];
comment on view atlas.spend_by_sender is 'Calls a UTC day, sender and project.';

create or replace view atlas.spend_by_project with (security_invoker = true) as
select s.day, s.project_id, p.name as project, s.calls, s.input_tokens, s.cached_tokens, s.output_tokens, s.reasoning_tokens,
  s.tokens, s.usd, s.unknown_calls, s.cache_write_tokens, s.held_calls, s.held_tokens, s.held_usd, s.presumed_calls, s.presumed_usd
from (
  select s.day, substr(s.scopes[2], 9)::uuid as project_id, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens,
    sum(s.cached_tokens) as cached_tokens, sum(s.output_tokens) as output_tokens,
    sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd,
    count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
    sum(s.cache_write_tokens) as cache_write_tokens,
    count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
    sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
    count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
    sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
      as presumed_usd
  from atlas.spend s where s.state <> 'reserved' group by s.day, s.scopes[2]) s
left join atlas.project p on p.id = s.project_id;
comment on view atlas.spend_by_project is 'Calls a UTC day and project.';

revoke execute on all functions in schema atlas, rag from public;

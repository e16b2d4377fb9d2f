-- What people read over REST: parts of a reply from a place on, and spend with all that the operators' reports have.
-- Functions are security invoker and views security_invoker: row level security of who looks is in force.

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

create or replace view atlas.spend_by_day with (security_invoker = true) as
select s.day, count(*) as calls, sum(s.input_tokens) as input_tokens, sum(s.cached_tokens) as cached_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens,
  sum(s.usd) as usd, count(*) filter (where s.known = 'unknown') as unknown_calls
from atlas.spend s where s.state = 'settled' group by s.day;

create or replace view atlas.spend_by_model with (security_invoker = true) as
select s.day, s.model, count(*) as calls, sum(s.input_tokens) as input_tokens, sum(s.output_tokens) as output_tokens,
  sum(s.tokens) as tokens, sum(s.usd) as usd, sum(s.cached_tokens) as cached_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, count(*) filter (where s.known = 'unknown') as unknown_calls
from atlas.spend s where s.state = 'settled' group by s.day, s.model;

create or replace view atlas.spend_by_sender with (security_invoker = true) as
select s.day, t.sender_key, t.project_id, count(*) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd, sum(s.cached_tokens) as cached_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, count(*) filter (where s.known = 'unknown') as unknown_calls
from atlas.spend s join atlas.task t on t.id = s.task_id
where s.state = 'settled' group by s.day, t.sender_key, t.project_id;

create view atlas.spend_by_project with (security_invoker = true) as
select s.day, t.project_id, p.name as project, count(*) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.cached_tokens) as cached_tokens, sum(s.output_tokens) as output_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd,
  count(*) filter (where s.known = 'unknown') as unknown_calls
from atlas.spend s join atlas.task t on t.id = s.task_id left join atlas.project p on p.id = t.project_id
where s.state = 'settled' group by s.day, t.project_id, p.name;
comment on view atlas.spend_by_project is 'Settled calls a UTC day and project.';

grant select on atlas.spend_by_project to authenticated, service_role;
grant execute on function atlas.read_parts(uuid, integer, integer, integer) to authenticated, service_role;

-- Whoever belongs to no project asks in the default one, and is to see its name beside the question.
alter policy "members see their projects" on atlas.project
  using (id in (select atlas.my_projects()) or id = '00000000-0000-0000-0000-000000000001');
alter policy "members see their projects" on atlas.project rename to "people see their projects and the default one";

revoke execute on all functions in schema atlas, rag from public;

-- Views for people. security_invoker: row level security of who looks is in force.

create view atlas.queue_status with (security_invoker = true) as
select t.state, t.wait_reason, count(*) as tasks, min(t.queued_at) as oldest, max(t.queued_at) as newest,
  min(t.run_after) filter (where t.wait_reason is not null) as next_run_after
from atlas.task t group by t.state, t.wait_reason;
comment on view atlas.queue_status is 'How many tasks are in which state, and why queued ones wait.';

create view atlas.task_history with (security_invoker = true) as
select t.id, t.title, t.kind, t.state, t.wait_reason, t.sender, t.sender_key, t.project_id, t.parent_id, t.model,
  t.attempts, t.failures, s.tokens, s.usd, t.queued_at, t.started_at, t.finished_at,
  t.finished_at - t.queued_at as took, t.error_code, t.error_message
from atlas.task t
left join lateral (select sum(p.tokens) as tokens, sum(p.usd) as usd from atlas.spend p where p.task_id = t.id) s on true;
comment on view atlas.task_history is 'Every task with what it cost and how it ended.';

create view atlas.spend_by_day with (security_invoker = true) as
select s.day, count(*) as calls, sum(s.input_tokens) as input_tokens, sum(s.cached_tokens) as cached_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens,
  sum(s.usd) as usd, count(*) filter (where s.known = 'unknown') as unknown_calls
from atlas.spend s where s.state = 'settled' group by s.day;
comment on view atlas.spend_by_day is 'Settled calls a UTC day.';

create view atlas.spend_by_model with (security_invoker = true) as
select s.day, s.model, count(*) as calls, sum(s.input_tokens) as input_tokens, sum(s.output_tokens) as output_tokens,
  sum(s.tokens) as tokens, sum(s.usd) as usd
from atlas.spend s where s.state = 'settled' group by s.day, s.model;
comment on view atlas.spend_by_model is 'Settled calls a UTC day and model.';

create view atlas.spend_by_sender with (security_invoker = true) as
select s.day, t.sender_key, t.project_id, count(*) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd
from atlas.spend s join atlas.task t on t.id = s.task_id
where s.state = 'settled' group by s.day, t.sender_key, t.project_id;
comment on view atlas.spend_by_sender is 'Settled calls a UTC day, sender and project.';

create view atlas.dead_letters with (security_invoker = true) as
select t.id, t.title, t.sender_key, t.project_id, t.failures, t.error_code, t.error_message, t.finished_at
from atlas.task t where t.state = 'dead_lettered';
comment on view atlas.dead_letters is 'Tasks that failed for good; `atlas dlq retry` or atlas.retry_task takes them up again.';

grant select on atlas.queue_status, atlas.task_history, atlas.spend_by_day, atlas.spend_by_model,
  atlas.spend_by_sender, atlas.dead_letters to authenticated, service_role;

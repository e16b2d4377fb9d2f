-- Views for people. security_invoker: row level security of who looks is in force.

create view atlas.queue_status with (security_invoker = true) as
select t.state, t.wait_reason, count(*) as tasks, min(t.queued_at) as oldest, max(t.queued_at) as newest,
  min(t.run_after) filter (where t.wait_reason is not null) as next_run_after
from atlas.task t group by t.state, t.wait_reason;
comment on view atlas.queue_status is 'How many tasks are in which state, and why queued ones wait.';
comment on column atlas.queue_status.state is 'queued, running, completed, failed, cancelled or dead_lettered.';
comment on column atlas.queue_status.wait_reason is 'Why a queued task is not ready yet.';
comment on column atlas.queue_status.tasks is 'How many tasks.';
comment on column atlas.queue_status.oldest is 'When the oldest of them was queued.';
comment on column atlas.queue_status.newest is 'When the newest of them was queued.';
comment on column atlas.queue_status.next_run_after is 'When the first of those that wait is due.';
grant select on atlas.queue_status to authenticated, service_role;

create view atlas.task_history with (security_invoker = true) as
select t.id, t.title, t.kind, t.state, t.wait_reason, t.sender, t.sender_key, t.project_id, t.parent_id, t.model,
  t.attempts, t.failures, s.tokens, s.usd, t.queued_at, t.started_at, t.finished_at,
  t.finished_at - t.queued_at as took, t.error_code, t.error_message
from atlas.task t
left join lateral (select sum(p.tokens) as tokens, sum(p.usd) as usd from atlas.spend p where p.task_id = t.id) s on true;
comment on view atlas.task_history is 'Every task with what it cost and how it ended.';
comment on column atlas.task_history.id is 'Its id.';
comment on column atlas.task_history.title is 'The first line, for people who look at the table.';
comment on column atlas.task_history.kind is 'chat or control.';
comment on column atlas.task_history.state is 'queued, running, completed, failed, cancelled or dead_lettered.';
comment on column atlas.task_history.wait_reason is 'Why a queued task is not ready yet.';
comment on column atlas.task_history.sender is 'The user who asked; null for the service role.';
comment on column atlas.task_history.sender_key is 'Whose turn and whose budget: the user, an outside identity, or service.';
comment on column atlas.task_history.project_id is 'The project it belongs to.';
comment on column atlas.task_history.parent_id is 'The earlier task that it goes on from.';
comment on column atlas.task_history.model is 'The model that answered, or was called.';
comment on column atlas.task_history.attempts is 'How many attempts were begun.';
comment on column atlas.task_history.failures is 'Failures of its own.';
comment on column atlas.task_history.tokens is 'Input and output together.';
comment on column atlas.task_history.usd is 'US dollars.';
comment on column atlas.task_history.queued_at is 'When it was asked.';
comment on column atlas.task_history.started_at is 'When it began.';
comment on column atlas.task_history.finished_at is 'When it ended.';
comment on column atlas.task_history.took is 'From the question to the end.';
comment on column atlas.task_history.error_code is 'Why it ended without a reply, in one word.';
comment on column atlas.task_history.error_message is 'Why it ended without a reply.';
grant select on atlas.task_history to authenticated, service_role;

create view atlas.spend_by_day with (security_invoker = true) as
select s.day, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens, sum(s.cached_tokens) as cached_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens,
  sum(s.usd) as usd, count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  sum(s.cache_write_tokens) as cache_write_tokens,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.spend s where s.state <> 'reserved' group by s.day;
comment on view atlas.spend_by_day is 'Calls a UTC day.';
comment on column atlas.spend_by_day.day is 'The UTC day.';
comment on column atlas.spend_by_day.calls is 'Model calls.';
comment on column atlas.spend_by_day.input_tokens is 'Tokens sent.';
comment on column atlas.spend_by_day.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend_by_day.output_tokens is 'Tokens written, reasoning included.';
comment on column atlas.spend_by_day.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend_by_day.tokens is 'Input and output together.';
comment on column atlas.spend_by_day.usd is 'US dollars.';
comment on column atlas.spend_by_day.unknown_calls is 'Calls of unknown usage: they count at their worst case.';
comment on column atlas.spend_by_day.cache_write_tokens is 'Those of the input that the provider wrote to its cache.';
comment on column atlas.spend_by_day.held_calls is 'Calls that were sent and not answered: they count at their worst case until their hold ends.';
comment on column atlas.spend_by_day.held_tokens is 'Tokens that held calls reserve; not among tokens.';
comment on column atlas.spend_by_day.held_usd is 'US dollars that held calls reserve; not among usd.';
comment on column atlas.spend_by_day.presumed_calls is 'Calls presumed not made, since nobody heard of them.';
comment on column atlas.spend_by_day.presumed_usd is 'US dollars that those would have cost at worst; not among usd.';
grant select on atlas.spend_by_day to authenticated, service_role;

create view atlas.spend_by_model with (security_invoker = true) as
select s.day, s.model, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens, sum(s.output_tokens) as output_tokens,
  sum(s.tokens) as tokens, sum(s.usd) as usd, sum(s.cached_tokens) as cached_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  sum(s.cache_write_tokens) as cache_write_tokens,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.spend s where s.state <> 'reserved' group by s.day, s.model;
comment on view atlas.spend_by_model is 'Calls a UTC day and model.';
comment on column atlas.spend_by_model.day is 'The UTC day.';
comment on column atlas.spend_by_model.model is 'The model that answered, or was called.';
comment on column atlas.spend_by_model.calls is 'Model calls.';
comment on column atlas.spend_by_model.input_tokens is 'Tokens sent.';
comment on column atlas.spend_by_model.output_tokens is 'Tokens written, reasoning included.';
comment on column atlas.spend_by_model.tokens is 'Input and output together.';
comment on column atlas.spend_by_model.usd is 'US dollars.';
comment on column atlas.spend_by_model.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend_by_model.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend_by_model.unknown_calls is 'Calls of unknown usage: they count at their worst case.';
comment on column atlas.spend_by_model.cache_write_tokens is 'Those of the input that the provider wrote to its cache.';
comment on column atlas.spend_by_model.held_calls is 'Calls that were sent and not answered: they count at their worst case until their hold ends.';
comment on column atlas.spend_by_model.held_tokens is 'Tokens that held calls reserve; not among tokens.';
comment on column atlas.spend_by_model.held_usd is 'US dollars that held calls reserve; not among usd.';
comment on column atlas.spend_by_model.presumed_calls is 'Calls presumed not made, since nobody heard of them.';
comment on column atlas.spend_by_model.presumed_usd is 'US dollars that those would have cost at worst; not among usd.';
grant select on atlas.spend_by_model to authenticated, service_role;

create view atlas.spend_by_sender with (security_invoker = true) as
select s.day, t.sender_key, t.project_id, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd, sum(s.cached_tokens) as cached_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  sum(s.cache_write_tokens) as cache_write_tokens,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.spend s join atlas.task t on t.id = s.task_id
where s.state <> 'reserved' group by s.day, t.sender_key, t.project_id;
comment on view atlas.spend_by_sender is 'Calls a UTC day, sender and project.';
comment on column atlas.spend_by_sender.day is 'The UTC day.';
comment on column atlas.spend_by_sender.sender_key is 'Whose turn and whose budget: the user, an outside identity, or service.';
comment on column atlas.spend_by_sender.project_id is 'The project it belongs to.';
comment on column atlas.spend_by_sender.calls is 'Model calls.';
comment on column atlas.spend_by_sender.input_tokens is 'Tokens sent.';
comment on column atlas.spend_by_sender.output_tokens is 'Tokens written, reasoning included.';
comment on column atlas.spend_by_sender.tokens is 'Input and output together.';
comment on column atlas.spend_by_sender.usd is 'US dollars.';
comment on column atlas.spend_by_sender.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend_by_sender.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend_by_sender.unknown_calls is 'Calls of unknown usage: they count at their worst case.';
comment on column atlas.spend_by_sender.cache_write_tokens is 'Those of the input that the provider wrote to its cache.';
comment on column atlas.spend_by_sender.held_calls is 'Calls that were sent and not answered: they count at their worst case until their hold ends.';
comment on column atlas.spend_by_sender.held_tokens is 'Tokens that held calls reserve; not among tokens.';
comment on column atlas.spend_by_sender.held_usd is 'US dollars that held calls reserve; not among usd.';
comment on column atlas.spend_by_sender.presumed_calls is 'Calls presumed not made, since nobody heard of them.';
comment on column atlas.spend_by_sender.presumed_usd is 'US dollars that those would have cost at worst; not among usd.';
grant select on atlas.spend_by_sender to authenticated, service_role;

create view atlas.spend_by_project with (security_invoker = true) as
select s.day, t.project_id, p.name as project, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.cached_tokens) as cached_tokens, sum(s.output_tokens) as output_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd,
  count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  sum(s.cache_write_tokens) as cache_write_tokens,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.spend s join atlas.task t on t.id = s.task_id left join atlas.project p on p.id = t.project_id
where s.state <> 'reserved' group by s.day, t.project_id, p.name;
comment on view atlas.spend_by_project is 'Calls a UTC day and project.';
comment on column atlas.spend_by_project.day is 'The UTC day.';
comment on column atlas.spend_by_project.project_id is 'The project it belongs to.';
comment on column atlas.spend_by_project.project is 'The name of the project.';
comment on column atlas.spend_by_project.calls is 'Model calls.';
comment on column atlas.spend_by_project.input_tokens is 'Tokens sent.';
comment on column atlas.spend_by_project.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend_by_project.output_tokens is 'Tokens written, reasoning included.';
comment on column atlas.spend_by_project.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend_by_project.tokens is 'Input and output together.';
comment on column atlas.spend_by_project.usd is 'US dollars.';
comment on column atlas.spend_by_project.unknown_calls is 'Calls of unknown usage: they count at their worst case.';
comment on column atlas.spend_by_project.cache_write_tokens is 'Those of the input that the provider wrote to its cache.';
comment on column atlas.spend_by_project.held_calls is 'Calls that were sent and not answered: they count at their worst case until their hold ends.';
comment on column atlas.spend_by_project.held_tokens is 'Tokens that held calls reserve; not among tokens.';
comment on column atlas.spend_by_project.held_usd is 'US dollars that held calls reserve; not among usd.';
comment on column atlas.spend_by_project.presumed_calls is 'Calls presumed not made, since nobody heard of them.';
comment on column atlas.spend_by_project.presumed_usd is 'US dollars that those would have cost at worst; not among usd.';
grant select on atlas.spend_by_project to authenticated, service_role;

create view atlas.dead_letters with (security_invoker = true) as
select t.id, t.title, t.sender_key, t.project_id, t.failures, t.error_code, t.error_message, t.finished_at
from atlas.task t where t.dead_letter;
comment on view atlas.dead_letters is 'Tasks that failed for good; `atlas dlq retry` or atlas.retry_task retries them.';
comment on column atlas.dead_letters.id is 'Its id.';
comment on column atlas.dead_letters.title is 'The first line, for people who look at the table.';
comment on column atlas.dead_letters.sender_key is 'Whose turn and whose budget: the user, an outside identity, or service.';
comment on column atlas.dead_letters.project_id is 'The project it belongs to.';
comment on column atlas.dead_letters.failures is 'Failures of its own.';
comment on column atlas.dead_letters.error_code is 'Why it ended without a reply, in one word.';
comment on column atlas.dead_letters.error_message is 'Why it ended without a reply.';
comment on column atlas.dead_letters.finished_at is 'When it ended.';
grant select on atlas.dead_letters to authenticated, service_role;

create view atlas.outbox_status with (security_invoker = true) as
select d.name as destination, d.kind, d.enabled, d.failures, d.open_until, d.last_error, d.last_sent_at,
  count(o.id) filter (where o.state = 'pending') as pending, count(o.id) filter (where o.state = 'dead') as dead,
  min(o.created_at) filter (where o.state = 'pending') as oldest
from atlas.destination d left join atlas.outbox o on o.destination_id = d.id and o.state in ('pending', 'dead')
group by d.id
union all
select null, 'kept', false, 0, null, null, null, count(*), 0, min(o.created_at)
from atlas.outbox o where o.destination_id is null and o.state = 'pending' having count(*) > 0;
comment on view atlas.outbox_status is 'Each destination with its breaker and its backlog, and what is kept for want of one.';
comment on column atlas.outbox_status.destination is 'Its name; null for rows that are kept.';
comment on column atlas.outbox_status.kind is 'pubsub, webhook, or kept.';
comment on column atlas.outbox_status.enabled is 'False: nothing is sent there.';
comment on column atlas.outbox_status.failures is 'Failures in a row; three open the breaker.';
comment on column atlas.outbox_status.open_until is 'Until then nothing is sent there.';
comment on column atlas.outbox_status.last_error is 'What its last failure said.';
comment on column atlas.outbox_status.last_sent_at is 'When something last arrived there.';
comment on column atlas.outbox_status.pending is 'Rows that have yet to leave.';
comment on column atlas.outbox_status.dead is 'Rows that were rejected three times: `atlas dlq retry|skip --kind outbox`.';
comment on column atlas.outbox_status.oldest is 'When the oldest pending row was written.';
grant select on atlas.outbox_status to service_role;

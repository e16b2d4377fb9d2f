-- The state: a task, its attempts, the workers.
--
--   queued > running > completed | failed | cancelled | dead_lettered      a retry goes back to queued
--
-- A queued task is ready when wait_reason is null. Otherwise it waits until run_after, or until what it waits for
-- happens (a settlement, resume, a higher budget). Lock order, everywhere: tasks by id, then the day's budgets by
-- scope, then (skip locked) waiting tasks.
--
-- From a claim on, a task's rows stay where they are: no index of task or spend has a column, in its key or its predicate, that a
-- reservation, progress or a completion changes. So Postgres updates them in place (HOT), and writes no index.
--
-- Five things are held by a lease, and say so in the same words: lease_owner holds it until lease_expires_at, and attempts
-- counts how often somebody began. A post has no owner (whichever call finds its lease over goes on), and a row of the outbox
-- counts rejections instead, since being sent again costs it nothing.

create table atlas.task (
  id uuid primary key,
  kind text not null check (kind in ('chat', 'control')),
  state text not null default 'queued'
    check (state in ('queued', 'running', 'completed', 'failed', 'cancelled', 'dead_lettered')),
  title text not null,
  in_id bigint not null references public.architect_in (id),
  message_task_id uuid not null,
  sender uuid,
  sender_key text not null,
  project_id uuid not null references atlas.project (id),
  parent_id uuid,
  priority smallint not null default 0 check (priority between -100 and 100),
  rank smallint not null generated always as (-priority) stored,
  ready boolean not null generated always as (state = 'queued' and wait_reason is null) stored,
  dead_letter boolean not null generated always as (state = 'dead_lettered') stored,
  queued_at timestamptz not null default now(),
  run_after timestamptz not null default now(),
  wait_reason text check (wait_reason in ('scheduled', 'retry', 'reserved_budget', 'settled_budget', 'upstream', 'held', 'response')),
  wait_scope text,
  failures integer not null default 0 check (failures >= 0),
  losses integer not null default 0 check (losses >= 0),
  early_losses integer not null default 0 check (early_losses >= 0),
  max_attempts integer not null default 3 check (max_attempts > 0),
  attempt_id uuid,
  attempts integer not null default 0 check (attempts >= 0),
  claim_seq bigint,
  cancel_requested_at timestamptz,
  adopted_at timestamptz,
  outage_since timestamptz,
  escalated_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  model text,
  out_id bigint,
  error_code text,
  error_message text,
  check ((state = 'running') = (attempt_id is not null)),
  check ((state in ('completed', 'failed', 'cancelled', 'dead_lettered')) = (finished_at is not null)),
  check (wait_reason is null or state = 'queued'),
  check (state not in ('failed', 'dead_lettered') or error_code is not null),
  constraint a_question_has_its_messages_id check (kind = 'control' or id = message_task_id)
) with (fillfactor = 60);
create index task_ready on atlas.task (rank, project_id, sender_key, in_id) where ready and kind = 'chat';
create index task_ready_control on atlas.task (in_id) where ready and kind = 'control';
create index task_waiting on atlas.task (run_after) where wait_reason is not null;
create index task_waiting_budget on atlas.task (wait_scope, in_id) where wait_scope is not null;
create index task_upstream on atlas.task (in_id) where wait_reason = 'upstream';
create index task_dead on atlas.task (in_id) where dead_letter;
create index task_control on atlas.task (message_task_id) where kind = 'control';
-- Where the last claim stopped, overall and in each project: the next one goes on from there.
create index task_turn on atlas.task (rank, claim_seq desc) where claim_seq is not null and kind = 'chat';
create index task_turn_in_project on atlas.task (rank, project_id, claim_seq desc) where claim_seq is not null and kind = 'chat';
create index task_sender on atlas.task (sender_key, queued_at desc);
create index task_project on atlas.task (project_id, queued_at desc);
create index task_recent on atlas.task (queued_at desc);
comment on table atlas.task is 'The queue: one row a question or control message. See docs/states.md.';
comment on column atlas.task.id is 'The message''s task_id for a question; an id of its own for a control message.';
comment on column atlas.task.kind is 'chat or control.';
comment on column atlas.task.state is 'queued, running, completed, failed, cancelled or dead_lettered.';
comment on column atlas.task.title is 'The first line of the question, for people who look at the table.';
comment on column atlas.task.in_id is 'The row of architect_in.';
comment on column atlas.task.message_task_id is 'The task_id that the message inherited; answers name it.';
comment on constraint a_question_has_its_messages_id on atlas.task is 'So a question is found by one id.';
comment on column atlas.task.sender is 'The user who asked; null for the service role.';
comment on column atlas.task.sender_key is 'Whose turn and whose budget: the user, an outside identity, or service.';
comment on column atlas.task.project_id is 'The project it belongs to.';
comment on column atlas.task.parent_id is 'The earlier task that it goes on from.';
comment on column atlas.task.priority is 'Higher goes first, from -100 to 100.';
comment on column atlas.task.rank is 'Minus the priority, so that one ascending index serves claims.';
comment on column atlas.task.ready is 'Whether it can be claimed now.';
comment on column atlas.task.dead_letter is 'Whether it is a dead letter.';
comment on column atlas.task.queued_at is 'When it was asked.';
comment on column atlas.task.run_after is 'Not before this time.';
comment on column atlas.task.wait_reason is 'Why a queued task is not ready yet. response: its response is under way. held: nobody knows yet
whether its call was made.';
comment on column atlas.task.wait_scope is 'The budget that a waiting task waits for.';
comment on column atlas.task.failures is 'Failures of its own; outages and lost workers do not count.';
comment on column atlas.task.losses is 'Workers that were lost while they ran it and had reserved; five end it.';
comment on column atlas.task.early_losses is 'Workers that were lost before they had reserved; ten end it.';
comment on column atlas.task.max_attempts is 'Failures of its own after which it is dead-lettered.';
comment on column atlas.task.attempt_id is 'The attempt that runs it now.';
comment on column atlas.task.attempts is 'How many attempts were begun.';
comment on column atlas.task.claim_seq is 'Order of the last claim.';
comment on column atlas.task.cancel_requested_at is 'When somebody asked to stop it while it ran.';
comment on column atlas.task.adopted_at is 'While it ran, another of its calls turned out to be answered: its worker goes over to that.';
comment on column atlas.task.outage_since is 'Since when upstream has kept it from an answer.';
comment on column atlas.task.escalated_at is 'When people were told of an outage that keeps it.';
comment on column atlas.task.started_at is 'When it began.';
comment on column atlas.task.finished_at is 'When it ended.';
comment on column atlas.task.model is 'The model that answered, or was called.';
comment on column atlas.task.out_id is 'The row of architect_out.';
comment on column atlas.task.error_code is 'Why it ended without a reply, in one word.';
comment on column atlas.task.error_message is 'Why it ended without a reply.';
alter table atlas.task enable row level security;
create policy "people see their own and their projects' tasks" on atlas.task for select to authenticated
  using (sender_key = (select auth.uid())::text or project_id in (select atlas.my_projects()));
comment on policy "people see their own and their projects' tasks" on atlas.task is 'Row level security: people see their own and their projects'' tasks.';
grant select on atlas.task to authenticated;
grant select on atlas.task to service_role;

create sequence atlas.claim_seq;
comment on sequence atlas.claim_seq is 'Orders claims: turns over projects and senders go by it.';

create table atlas.worker (
  id uuid primary key,
  name text not null,
  version text not null,
  protocol integer not null default 1 check (protocol > 0),
  state text not null default 'busy' check (state in ('idle', 'busy', 'stopped')),
  concurrency integer not null check (concurrency > 0),
  models text[] not null default '{}',
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);
comment on table atlas.worker is 'Who works: alive when seen lately; idle ones are notified of new tasks.';
comment on column atlas.worker.id is 'A new one at each start.';
comment on column atlas.worker.name is 'Host and process.';
comment on column atlas.worker.version is 'Its version of Atlas.';
comment on column atlas.worker.protocol is 'Version of the protocol that it speaks with the schema: see atlas.protocols().';
comment on column atlas.worker.state is 'idle waits for a wake-up, busy claims by itself, stopped has left.';
comment on column atlas.worker.concurrency is 'Tasks it runs at once.';
comment on column atlas.worker.models is 'Its chain: the model it calls first, and those it falls back to.';
comment on column atlas.worker.started_at is 'When it began.';
comment on column atlas.worker.seen_at is 'When it last said that it is there.';
alter table atlas.worker enable row level security;
grant select on atlas.worker to service_role;

create table atlas.attempt (
  id uuid primary key,
  task_id uuid not null references atlas.task (id),
  number integer not null check (number > 0),
  lease_owner uuid not null,
  state text not null default 'running'
    check (state in ('running', 'completed', 'failed', 'cancelled', 'released', 'lost')),
  lease_expires_at timestamptz not null,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  model text,
  response_id text,
  sequence_number bigint,
  generation integer not null default 0 check (generation >= 0),
  response_offset integer not null default 0 check (response_offset >= 0),
  first_delta_at timestamptz,
  progress_sent_at timestamptz,
  late_text text,
  error_code text,
  error_message text,
  unique (task_id, number),
  check ((state = 'running') = (finished_at is null))
) with (fillfactor = 60);
create unique index attempt_one_running on atlas.attempt (task_id) where state = 'running';
comment on table atlas.attempt is 'One try at a task: its worker, its lease, where its reply stands.';
comment on column atlas.attempt.id is 'The attempt id: every transition of a running task needs it.';
comment on column atlas.attempt.task_id is 'The task it belongs to.';
comment on column atlas.attempt.number is 'Which try it is, from 1.';
comment on column atlas.attempt.lease_owner is 'The worker that runs, or ran, it.';
comment on column atlas.attempt.state is 'released: handed back unused (budget, outage, shutdown). lost: the lease ran out.';
comment on column atlas.attempt.lease_expires_at is 'Until when its worker holds the task without extending the lease.';
comment on column atlas.attempt.started_at is 'When it began.';
comment on column atlas.attempt.finished_at is 'When it ended.';
comment on column atlas.attempt.model is 'The model that answered, or was called.';
comment on column atlas.attempt.response_id is 'The provider''s id of the reply being written.';
comment on column atlas.attempt.sequence_number is 'Where the provider''s stream can be resumed.';
comment on column atlas.attempt.generation is 'Rises with each fallback or repair; parts count from 0 in each.';
comment on column atlas.attempt.response_offset is 'Where in its generation the text of this response begins: after that of the call it continues.';
comment on column atlas.attempt.first_delta_at is 'When its first text was stored.';
comment on column atlas.attempt.error_code is 'Why it ended without a reply, in one word.';
comment on column atlas.attempt.error_message is 'Why it ended without a reply.';
comment on column atlas.attempt.late_text is 'A response that came when its task was over already.';
comment on column atlas.attempt.progress_sent_at is 'When a sign of progress was last sent.';
alter table atlas.attempt enable row level security;
create policy "people see the attempts of tasks they see" on atlas.attempt for select to authenticated
  using (exists (select from atlas.task t where t.id = attempt.task_id));
comment on policy "people see the attempts of tasks they see" on atlas.attempt is 'Row level security: people see the attempts of tasks they see.';
grant select on atlas.attempt to authenticated;
grant select on atlas.attempt to service_role;

create table atlas.control (
  only_row boolean primary key default true check (only_row),
  paused_at timestamptz,
  paused_by text,
  reason text,
  cache_flushed_at timestamptz,
  books_checked_at timestamptz,
  books_wrong integer not null default 0 check (books_wrong >= 0),
  audit_checked_at timestamptz,
  audit_broken integer not null default 0 check (audit_broken >= 0)
);
comment on table atlas.control is 'One row: whether the queue is paused, and since when caches count.';
comment on column atlas.control.only_row is 'There is one row.';
comment on column atlas.control.paused_at is 'Since when no question is claimed; null while the queue runs.';
comment on column atlas.control.paused_by is 'Who paused it.';
comment on column atlas.control.reason is 'Why it was paused.';
comment on column atlas.control.cache_flushed_at is 'Caches that are older do not count.';
comment on column atlas.control.books_checked_at is 'When a worker last proved the books.';
comment on column atlas.control.books_wrong is 'How many rows atlas.check_ledger had then.';
comment on column atlas.control.audit_checked_at is 'When a worker last checked the newest rows of the audit.';
comment on column atlas.control.audit_broken is 'How many of them did not fit.';
alter table atlas.control enable row level security;
grant select on atlas.control to service_role;
insert into atlas.control default values;

create function atlas.owns_task(task uuid) returns boolean
language sql stable security definer set search_path = ''
as $$
  select exists (
    select from atlas.task t
    where t.id = task and (t.sender_key = atlas.uid()::text or t.project_id in (select atlas.my_projects())))
$$;
comment on function atlas.owns_task(uuid) is 'Whether the calling user may read the task: their own, or their project''s.';
grant execute on function atlas.owns_task(uuid) to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;

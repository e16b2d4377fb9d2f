-- The state: a task, its attempts, the parts of a running reply, the workers, the budgets, the spend.
--
--   queued > running > completed | failed | cancelled | dead_lettered      a retry goes back to queued
--
-- A queued task is ready when wait_reason is null. Otherwise it waits until run_after, or until what it waits for
-- happens (a settlement, resume, a higher budget). Lock order, everywhere: tasks by id, then the day's budgets by
-- scope, then (skip locked) waiting tasks.

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
  queued_at timestamptz not null default now(),
  run_after timestamptz not null default now(),
  wait_reason text check (wait_reason in ('scheduled', 'retry', 'reserved_budget', 'settled_budget', 'upstream')),
  wait_scope text,
  failures integer not null default 0 check (failures >= 0),
  losses integer not null default 0 check (losses >= 0),
  max_attempts integer not null default 3 check (max_attempts > 0),
  attempt_id uuid,
  attempts integer not null default 0 check (attempts >= 0),
  claim_seq bigint,
  cancel_requested_at timestamptz,
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
  check (state not in ('failed', 'dead_lettered') or error_code is not null)
);
create sequence atlas.claim_seq;
create index task_ready on atlas.task (rank, sender_key, in_id)
  where state = 'queued' and wait_reason is null and kind = 'chat';
create index task_ready_control on atlas.task (in_id)
  where state = 'queued' and wait_reason is null and kind = 'control';
create index task_waiting on atlas.task (run_after) where state = 'queued' and wait_reason is not null;
create index task_waiting_budget on atlas.task (wait_scope, in_id) where wait_scope is not null;
create index task_served on atlas.task (sender_key, claim_seq desc) where claim_seq is not null;
create index task_running on atlas.task (attempt_id) where state = 'running';
create index task_message on atlas.task (message_task_id);
create index task_owner on atlas.task (sender, queued_at desc);
create index task_project on atlas.task (project_id, queued_at desc);
create index task_recent on atlas.task (queued_at desc);
create index task_dead on atlas.task (finished_at desc) where state = 'dead_lettered';
comment on table atlas.task is 'The queue: one row a question or control message. See docs/states.md.';
comment on column atlas.task.id is 'The message''s task_id for a question; an id of its own for a control message.';
comment on column atlas.task.title is 'The first line of the question, for people who look at the table.';
comment on column atlas.task.message_task_id is 'The task_id that the message carried; answers name it.';
comment on column atlas.task.sender_key is 'Whose turn and whose budget: the user, an outside identity, or service.';
comment on column atlas.task.rank is 'Minus the priority, so that one ascending index serves claims.';
comment on column atlas.task.wait_reason is 'Why a queued task is not ready yet.';
comment on column atlas.task.wait_scope is 'The budget that a waiting task waits for.';
comment on column atlas.task.losses is 'Workers that were lost while they ran it.';
comment on column atlas.task.failures is 'Failures of its own; outages and lost workers do not count.';
comment on column atlas.task.attempts is 'How many attempts were begun.';
comment on column atlas.task.claim_seq is 'Order of the last claim: turns over senders go by it.';
comment on column atlas.task.outage_since is 'Since when upstream has kept it from an answer.';

create table atlas.worker (
  id uuid primary key,
  name text not null,
  version text not null,
  state text not null default 'busy' check (state in ('idle', 'busy', 'stopped')),
  concurrency integer not null check (concurrency > 0),
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);
comment on table atlas.worker is 'Who works: alive when seen lately; idle ones are notified of new tasks.';

create table atlas.attempt (
  id uuid primary key,
  task_id uuid not null references atlas.task (id),
  number integer not null check (number > 0),
  worker_id uuid not null,
  state text not null default 'running'
    check (state in ('running', 'completed', 'failed', 'cancelled', 'released', 'lost')),
  lease_expires_at timestamptz not null,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  model text,
  response_id text,
  sequence_number bigint,
  generation integer not null default 0 check (generation >= 0),
  first_delta_at timestamptz,
  error_code text,
  error_message text,
  unique (task_id, number),
  check ((state = 'running') = (finished_at is null))
);
create unique index attempt_one_running on atlas.attempt (task_id) where state = 'running';
create index attempt_lease on atlas.attempt (lease_expires_at) where state = 'running';
comment on table atlas.attempt is 'One try at a task: its worker, its lease, where its reply stands.';
comment on column atlas.attempt.state is
  'released: handed back unused (budget, outage, shutdown). lost: the lease ran out.';
comment on column atlas.attempt.response_id is 'The provider''s id of the reply being written.';
comment on column atlas.attempt.generation is 'Rises with each fallback or repair; parts count from 0 in each.';

create table atlas.reply_part (
  attempt_id uuid not null references atlas.attempt (id),
  generation integer not null check (generation >= 0),
  "offset" integer not null check ("offset" >= 0),
  text text not null check (text <> ''),
  task_id uuid not null references atlas.task (id),
  created_at timestamptz not null default now(),
  primary key (attempt_id, generation, "offset")
);
create index reply_part_task on atlas.reply_part (task_id);
comment on table atlas.reply_part is 'The reply while it is written. Insert-only; read by attempt, generation, offset.';
comment on column atlas.reply_part."offset" is 'Unicode code points of this generation before this part.';

create table atlas.control (
  only_row boolean primary key default true check (only_row),
  paused_at timestamptz,
  paused_by text,
  reason text,
  cache_flushed_at timestamptz
);
insert into atlas.control default values;
comment on table atlas.control is 'One row: whether the queue is paused, and since when caches count.';

create table atlas.budget (
  scope text primary key check (scope ~ '^(global|(project|sender):.+)$'),
  per_run integer check (per_run >= 0),
  daily bigint check (daily >= 0),
  usd_daily numeric(14, 6) check (usd_daily >= 0),
  controlled text[] not null default '{}' check (controlled <@ array['per_run', 'daily', 'usd_daily']),
  set_by text not null generated always as (case when controlled = '{}' then 'settings' else 'control' end) stored,
  updated_at timestamptz not null default now()
);
insert into atlas.budget (scope) values ('global');
comment on table atlas.budget is 'Limits: the whole fleet''s (global), a project''s, a sender''s. Null means none.';
comment on column atlas.budget.per_run is 'Tokens of one attempt, input and output together.';
comment on column atlas.budget.daily is 'Tokens of one UTC day.';
comment on column atlas.budget.usd_daily is 'US dollars of one UTC day.';
comment on column atlas.budget.controlled is 'Limits that set_budget set: those of a worker''s environment do not replace them.';
comment on column atlas.budget.set_by is 'settings: all from a worker''s environment; control: set_budget set some.';

create table atlas.budget_day (
  day date not null,
  scope text not null references atlas.budget (scope) on delete cascade,
  reserved_tokens bigint not null default 0 check (reserved_tokens >= 0),
  settled_tokens bigint not null default 0 check (settled_tokens >= 0),
  overrun_tokens bigint not null default 0 check (overrun_tokens >= 0),
  reserved_usd numeric(18, 9) not null default 0 check (reserved_usd >= 0),
  settled_usd numeric(18, 9) not null default 0 check (settled_usd >= 0),
  primary key (day, scope)
) with (fillfactor = 50);
comment on table atlas.budget_day is 'What each budget holds on a UTC day: settled + reserved <= limit.';
comment on column atlas.budget_day.overrun_tokens is 'Usage above its reservation: recorded in full, never clipped.';

create table atlas.spend (
  id bigint generated always as identity primary key,
  task_id uuid not null references atlas.task (id),
  attempt_id uuid not null references atlas.attempt (id),
  call integer not null check (call >= 0),
  state text not null default 'reserved' check (state in ('reserved', 'settled')),
  model text not null,
  price_from date,
  day date not null,
  scopes text[] not null,
  reserved_tokens bigint not null check (reserved_tokens >= 0),
  reserved_usd numeric(18, 9) check (reserved_usd >= 0),
  response_id text,
  input_tokens bigint check (input_tokens >= 0),
  cached_tokens bigint check (cached_tokens >= 0),
  output_tokens bigint check (output_tokens >= 0),
  reasoning_tokens bigint check (reasoning_tokens >= 0),
  tokens bigint check (tokens >= 0),
  usd numeric(18, 9) check (usd >= 0),
  known text check (known in ('reported', 'estimated', 'unknown')),
  over_reservation boolean not null default false,
  reserved_at timestamptz not null default now(),
  settled_at timestamptz,
  unique (attempt_id, call),
  check ((state = 'settled') = (settled_at is not null)),
  check ((state = 'settled') = (known is not null)),
  check ((state = 'settled') = (tokens is not null))
);
create index spend_task on atlas.spend (task_id);
create index spend_open on atlas.spend (task_id) where state = 'reserved';
create index spend_day on atlas.spend (day);
comment on table atlas.spend is 'One row a model call, from its reservation to its settlement.';
comment on column atlas.spend.attempt_id is 'The attempt that made the call, or that took it up from a lost one.';
comment on column atlas.spend.call is 'Which call of its attempt, from 0. Makes reserving idempotent.';
comment on column atlas.spend.price_from is 'valid_from of the price row used; null where the model has no price.';
comment on column atlas.spend.known is
  'reported by the provider; estimated; unknown: the whole reservation counts until it is corrected.';
comment on column atlas.spend.output_tokens is 'Reasoning tokens are among them.';

alter table atlas.task enable row level security;
alter table atlas.worker enable row level security;
alter table atlas.attempt enable row level security;
alter table atlas.reply_part enable row level security;
alter table atlas.control enable row level security;
alter table atlas.budget enable row level security;
alter table atlas.budget_day enable row level security;
alter table atlas.spend enable row level security;

create function atlas.owns_task(task uuid) returns boolean
language sql stable security definer set search_path = ''
as $$
  select exists (
    select from atlas.task t
    where t.id = task and (t.sender = auth.uid() or t.project_id in (select atlas.my_projects())))
$$;
comment on function atlas.owns_task(uuid) is 'Whether the calling user may read the task: their own, or their project''s.';

create policy "people see their own and their projects' tasks" on atlas.task for select to authenticated
  using (sender = (select auth.uid()) or project_id in (select atlas.my_projects()));
create policy "people see the attempts of tasks they see" on atlas.attempt for select to authenticated
  using (exists (select from atlas.task t where t.id = attempt.task_id));
create policy "people see the replies of tasks they see" on atlas.reply_part for select to authenticated
  using (exists (select from atlas.task t where t.id = reply_part.task_id));
create policy "people see the spend of tasks they see" on atlas.spend for select to authenticated
  using (exists (select from atlas.task t where t.id = spend.task_id));
create policy "people see their own and their projects' budgets" on atlas.budget for select to authenticated
  using (scope = 'sender:' || (select auth.uid())::text
    or scope in (select 'project:' || p from atlas.my_projects() p));
create policy "people see their own and their projects' days" on atlas.budget_day for select to authenticated
  using (scope = 'sender:' || (select auth.uid())::text
    or scope in (select 'project:' || p from atlas.my_projects() p));

grant select on atlas.task, atlas.attempt, atlas.reply_part, atlas.spend, atlas.budget, atlas.budget_day
  to authenticated;
grant select on atlas.task, atlas.attempt, atlas.reply_part, atlas.spend, atlas.budget, atlas.budget_day,
  atlas.worker, atlas.control to service_role;
grant execute on function atlas.owns_task(uuid) to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;

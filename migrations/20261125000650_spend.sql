-- The calls: one row each, from reservation to settlement.

create table atlas.spend (
  id bigint generated always as identity primary key,
  task_id uuid not null references atlas.task (id),
  attempt_id uuid not null references atlas.attempt (id),
  call integer not null check (call >= 0),
  corrects bigint references atlas.spend (id),
  state text not null default 'reserved' check (state in ('reserved', 'held', 'settled')),
  model text not null,
  price_from date,
  tier text not null default 'default',
  completion_window text not null default 'soonest',
  tier_given text,
  factor numeric(6, 3) not null default 1 check (factor > 0),
  day date not null,
  scopes text[] not null,
  reserved_tokens bigint not null check (reserved_tokens >= 0),
  reserved_usd numeric(18, 9) check (reserved_usd >= 0),
  reserved_output bigint not null default 0 check (reserved_output >= 0),
  response_id text,
  unstored boolean not null default false,
  adopted_at timestamptz,
  held_until timestamptz,
  left_at timestamptz,
  asked_at timestamptz,
  input_tokens bigint,
  cached_tokens bigint,
  cache_write_tokens bigint,
  output_tokens bigint,
  reasoning_tokens bigint,
  tokens bigint,
  usd numeric(18, 9),
  known text check (known in ('reported', 'estimated', 'unknown', 'none', 'presumed_none')),
  over_reservation boolean not null default false,
  reserved_at timestamptz not null default now(),
  settled_at timestamptz,
  check ((state = 'settled') = (settled_at is not null)),
  check ((state = 'settled') = (known is not null)),
  check ((state = 'settled') = (tokens is not null)),
  check ((state = 'held') = (held_until is not null)),
  constraint only_corrections_are_negative check (corrects is not null or least(input_tokens, cached_tokens, cache_write_tokens,
    output_tokens, reasoning_tokens, tokens, usd) >= 0),
  check (known not in ('none', 'presumed_none') or tokens = 0),
  constraint corrections_are_settled check (corrects is null or (state = 'settled' and reserved_tokens = 0)),
  constraint what_was_left_is_open check (left_at is null or (state = 'reserved' and response_id is not null))
) with (fillfactor = 50);
create unique index spend_call on atlas.spend (attempt_id, call) where corrects is null;
create index spend_corrects on atlas.spend (corrects) where corrects is not null;
create index spend_task on atlas.spend (task_id);
create index spend_held on atlas.spend (held_until) where held_until is not null;
create index spend_left on atlas.spend (left_at) where left_at is not null;
create index spend_day on atlas.spend (day);
create index spend_model on atlas.spend (model, id desc);
comment on table atlas.spend is 'One row a model call, from its reservation to its settlement; a correction is a row of its own.';
comment on constraint only_corrections_are_negative on atlas.spend is 'A correction is the difference, and may be negative.';
comment on constraint corrections_are_settled on atlas.spend is 'A correction reserves nothing.';
comment on constraint what_was_left_is_open on atlas.spend is 'Only a response can be left, and while it is not settled.';
comment on column atlas.spend.id is 'Its id.';
comment on column atlas.spend.task_id is 'The task it belongs to.';
comment on column atlas.spend.attempt_id is 'The attempt that made the call, or that took it up from a lost one.';
comment on column atlas.spend.call is 'Which call of its attempt, from 0. Makes reserving idempotent.';
comment on column atlas.spend.corrects is 'The settled call that this row corrects, by its differences.';
comment on column atlas.spend.state is 'reserved while the call is under way; held: sent, and not answered; settled.';
comment on column atlas.spend.model is 'The model that answered, or was called.';
comment on column atlas.spend.price_from is 'valid_from of the price row used; null where the model has no price.';
comment on column atlas.spend.tier is 'The service tier that was asked for.';
comment on column atlas.spend.completion_window is 'soonest, 2h or 8h: until when the reply was asked for.';
comment on column atlas.spend.tier_given is 'The service tier that the response reports; the price goes by it.';
comment on column atlas.spend.factor is 'What tier and window multiply the price by.';
comment on column atlas.spend.day is 'The UTC day.';
comment on column atlas.spend.scopes is 'The budgets that it counts against.';
comment on column atlas.spend.reserved_tokens is 'The worst case: counted input with a margin, and the most output.';
comment on column atlas.spend.reserved_usd is 'The worst case in US dollars; null where the model has no price.';
comment on column atlas.spend.reserved_output is 'Of what is reserved, the most that the call may write: max_output_tokens.';
comment on column atlas.spend.response_id is 'The provider''s id of the response.';
comment on column atlas.spend.unstored is 'Its response had begun, and the provider does not keep it: when its reader is lost, it is.';
comment on column atlas.spend.adopted_at is 'When the provider''s webhook told of its response.';
comment on column atlas.spend.held_until is 'When its hold ends: then it is presumed not made, or booked in full, as atlas.spend_rules says.';
comment on column atlas.spend.left_at is 'Since when no attempt reads its response, which is not settled.';
comment on column atlas.spend.asked_at is 'When the provider was last asked what became of it.';
comment on column atlas.spend.input_tokens is 'Tokens sent.';
comment on column atlas.spend.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend.cache_write_tokens is 'Those of the input that the provider wrote to its cache.';
comment on column atlas.spend.output_tokens is 'Reasoning tokens are among them.';
comment on column atlas.spend.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend.tokens is 'What counts: input and output, or the reservation while usage is unknown; of a correction the difference.';
comment on column atlas.spend.usd is 'US dollars.';
comment on column atlas.spend.known is
  'reported by the provider; estimated; unknown: the whole reservation counts until it is corrected; none: it was not made, or the
provider refused it; presumed_none: sent, never answered, and nothing was heard of it.';
comment on column atlas.spend.over_reservation is 'The provider used more than was reserved; it counts in full.';
comment on column atlas.spend.reserved_at is 'When it was reserved, just before the call.';
comment on column atlas.spend.settled_at is 'When the usage was known, or given up.';
alter table atlas.spend enable row level security;
create policy "people see the spend of tasks they see" on atlas.spend for select to authenticated
  using (exists (select from atlas.task t where t.id = spend.task_id));
comment on policy "people see the spend of tasks they see" on atlas.spend is 'Row level security: people see the spend of tasks they see.';
grant select on atlas.spend to authenticated;
grant select on atlas.spend to service_role;

revoke execute on all functions in schema atlas, rag from public;

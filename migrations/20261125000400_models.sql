-- Models: what each can do, when it goes, who follows it, what it costs since when, and what the fleet learned of it.
-- Rows come from seed/models.sql; an operator changes them in Studio without a release.

create table atlas.model (
  name text primary key,
  shutdown_at date,
  successor text references atlas.model (name) deferrable initially deferred,
  context_tokens integer check (context_tokens > 0),
  max_output_tokens integer check (max_output_tokens > 0),
  vocabulary text check (vocabulary in ('o200k_base', 'cl100k_base')),
  reasoning boolean not null default false,
  reasoning_effort text check (reasoning_effort in ('none', 'minimal', 'low', 'medium', 'high', 'xhigh')),
  streams boolean not null default true,
  temperature boolean not null default false,
  note text,
  check (successor is distinct from name)
);
comment on table atlas.model is 'The models Atlas may call, with their life and limits.';
comment on column atlas.model.name is 'The provider''s name of the model.';
comment on column atlas.model.shutdown_at is 'From this day on the model is passed over for its successor.';
comment on column atlas.model.successor is 'Called instead once the model is shut down or not found.';
comment on column atlas.model.context_tokens is 'Tokens that one call may hold, input and output; null: not known.';
comment on column atlas.model.max_output_tokens is 'Tokens that one reply may have; null: not known.';
comment on column atlas.model.vocabulary is
  'Its tokenizer. Null: not known; then its tokens are counted as UTF-8 bytes, an upper bound.';
comment on column atlas.model.reasoning is 'It thinks before it writes: passed over with under 4,000 output tokens left.';
comment on column atlas.model.reasoning_effort is 'Sent as reasoning.effort where set.';
comment on column atlas.model.streams is 'False: called without streaming.';
comment on column atlas.model.temperature is 'Whether it accepts a temperature.';
comment on column atlas.model.note is 'For people.';
alter table atlas.model enable row level security;
create policy "everyone with a login sees the models" on atlas.model for select to authenticated using (true);
comment on policy "everyone with a login sees the models" on atlas.model is 'Row level security: everyone with a login sees the models.';
grant select on atlas.model to authenticated;
grant select, insert, update, delete on atlas.model to service_role;

create table atlas.model_price (
  model text not null references atlas.model (name) on delete cascade,
  valid_from date not null,
  input_usd numeric(12, 6) not null check (input_usd >= 0),
  cached_usd numeric(12, 6) check (cached_usd >= 0),
  output_usd numeric(12, 6) not null check (output_usd >= 0),
  long_input_from integer check (long_input_from > 0),
  long_input_factor numeric(6, 3) not null default 1 check (long_input_factor >= 1),
  long_output_factor numeric(6, 3) not null default 1 check (long_output_factor >= 1),
  primary key (model, valid_from)
);
comment on table atlas.model_price is 'US dollars per million tokens, from a day on. A change of price is a new row.';
comment on column atlas.model_price.model is 'The model that answered, or was called.';
comment on column atlas.model_price.valid_from is 'The UTC day from which the price counts.';
comment on column atlas.model_price.input_usd is 'US dollars per million input tokens.';
comment on column atlas.model_price.cached_usd is 'Null: cached input costs as much as other input.';
comment on column atlas.model_price.output_usd is 'US dollars per million output tokens.';
comment on column atlas.model_price.long_input_from is 'Above this many input tokens the two factors apply.';
comment on column atlas.model_price.long_input_factor is 'Multiplies the prices of input above long_input_from.';
comment on column atlas.model_price.long_output_factor is 'Multiplies the price of output above long_input_from.';
alter table atlas.model_price enable row level security;
create policy "everyone with a login sees the prices" on atlas.model_price for select to authenticated using (true);
comment on policy "everyone with a login sees the prices" on atlas.model_price is 'Row level security: everyone with a login sees the prices.';
grant select on atlas.model_price to authenticated;
grant select, insert, update, delete on atlas.model_price to service_role;

create table atlas.model_state (
  model text primary key,
  open_until timestamptz,
  failures integer not null default 0 check (failures >= 0),
  last_error text,
  missing_since timestamptz,
  updated_at timestamptz not null default now()
);
comment on table atlas.model_state is 'What the fleet learned of each model: its breaker, and whether it is gone.';
comment on column atlas.model_state.model is 'The model that answered, or was called.';
comment on column atlas.model_state.open_until is 'The breaker: not called before this time.';
comment on column atlas.model_state.failures is 'Failures in a row.';
comment on column atlas.model_state.last_error is 'What the last failure said.';
comment on column atlas.model_state.missing_since is 'The provider said model_not_found: its successor is called.';
comment on column atlas.model_state.updated_at is 'When the row last changed.';
alter table atlas.model_state enable row level security;
grant select, insert, update, delete on atlas.model_state to service_role;

create function atlas.price_on(model_name text, day date) returns atlas.model_price
language sql stable security definer set search_path = ''
as $$
  select p from atlas.model_price p
  where p.model = model_name and p.valid_from <= day
  order by p.valid_from desc limit 1
$$;
comment on function atlas.price_on(text, date) is 'The price row of a model on a day; null where it has none.';
grant execute on function atlas.price_on(text, date) to service_role, atlas_worker;

create function atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint) returns numeric
language sql immutable set search_path = ''
as $$
  select round((
      ((input - cached) * price.input_usd + cached * coalesce(price.cached_usd, price.input_usd))
        * case when input > price.long_input_from then price.long_input_factor else 1 end
      + output * price.output_usd * case when input > price.long_input_from then price.long_output_factor else 1 end
    ) / 1000000, 9)
$$;
comment on function atlas.cost(atlas.model_price, bigint, bigint, bigint) is
  'US dollars of a call: input (of which cached) and output tokens (reasoning among them) at a price row.';
grant execute on function atlas.cost(atlas.model_price, bigint, bigint, bigint) to service_role, atlas_worker;

create function atlas.list_models() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object(
      'priced', p.model is not null, 'open_until', s.open_until, 'missing_since', s.missing_since) order by m.name), '[]')
  from atlas.model m
  left join atlas.model_state s on s.model = m.name
  left join lateral (select (atlas.price_on(m.name, (now() at time zone 'UTC')::date)).model) p on true
$$;
comment on function atlas.list_models() is 'All models with their life, limits and what the fleet learned of them.';
grant execute on function atlas.list_models() to service_role, atlas_worker;

create function atlas.breaker_open_until(p_failures integer, p_first double precision, p_longest double precision,
  p_asked double precision default 0) returns timestamptz
language sql volatile set search_path = ''
as $$
  select case when p_failures >= 3 then now() + interval '1 second' * greatest(least(p_asked, 300),
    (0.5 + random() / 2) * least(p_longest, p_first * 2 ^ least(p_failures - 3, 6))) end
$$;
comment on function atlas.breaker_open_until(integer, double precision, double precision, double precision) is
  'The breaker of models and destinations: from the third failure in a row it opens, for p_first seconds doubled up to p_longest,
half of it jitter, and never for less than was asked for (300 s at most). Null: it stays closed. Internal.';

create function atlas.record_model(model_name text, ok boolean, error text default null, missing boolean default false)
returns void
language sql security definer set search_path = ''
as $$
  insert into atlas.model_state as s (model, failures, last_error, missing_since, open_until)
  values (model_name, case when ok then 0 else 1 end, error, case when missing then now() end, null)
  on conflict (model) do update set
    failures = case when ok then 0 else s.failures + 1 end,
    last_error = case when ok then null else error end,
    missing_since = case when ok then null when missing then coalesce(s.missing_since, now()) else s.missing_since end,
    open_until = case when ok or missing then null else atlas.breaker_open_until(s.failures + 1, 5, 60) end,
    updated_at = now()
$$;
comment on function atlas.record_model(text, boolean, text, boolean) is
  'Shares what a call learned of a model with the fleet: three failures in a row open its breaker.';
grant execute on function atlas.record_model(text, boolean, text, boolean) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

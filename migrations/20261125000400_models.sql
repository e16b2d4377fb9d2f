-- Models: what each can do, when it goes, who follows it, and what it costs since when.
-- Rows come from seed/models.sql; an operator changes them in Studio without a release.

create table atlas.model (
  name text primary key,
  shutdown_at date,
  successor text references atlas.model (name) deferrable initially deferred,
  context_tokens integer check (context_tokens > 0),
  max_output_tokens integer check (max_output_tokens > 0),
  vocabulary text check (vocabulary in ('o200k_base', 'cl100k_base')),
  reasoning boolean not null default false,
  reasoning_effort text check (reasoning_effort in ('none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max')),
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
  cache_write_usd numeric(12, 6) check (cache_write_usd >= 0),
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
comment on column atlas.model_price.cache_write_usd is 'Null: input that the provider writes to its cache costs as much as other input.';
comment on column atlas.model_price.output_usd is 'US dollars per million output tokens.';
comment on column atlas.model_price.long_input_from is 'Above this many input tokens the two factors apply.';
comment on column atlas.model_price.long_input_factor is 'Multiplies the prices of input above long_input_from.';
comment on column atlas.model_price.long_output_factor is 'Multiplies the price of output above long_input_from.';
alter table atlas.model_price enable row level security;
create policy "everyone with a login sees the prices" on atlas.model_price for select to authenticated using (true);
comment on policy "everyone with a login sees the prices" on atlas.model_price is 'Row level security: everyone with a login sees the prices.';
grant select on atlas.model_price to authenticated;
grant select, insert, update, delete on atlas.model_price to service_role;

create table atlas.price_factor (
  kind text not null check (kind in ('tier', 'window')),
  name text not null,
  factor numeric(6, 3) not null check (factor > 0),
  primary key (kind, name)
);
comment on table atlas.price_factor is 'What a service tier or a completion window multiplies the whole price by.';
comment on column atlas.price_factor.kind is 'tier (default, flex, fast, priority) or window (soonest, 2h, 8h).';
comment on column atlas.price_factor.name is 'Its name in the provider''s API.';
comment on column atlas.price_factor.factor is '0.5 is half the price.';
alter table atlas.price_factor enable row level security;
create policy "everyone with a login sees the factors" on atlas.price_factor for select to authenticated using (true);
comment on policy "everyone with a login sees the factors" on atlas.price_factor is 'Row level security: everyone with a login sees the factors.';
grant select on atlas.price_factor to authenticated;
grant select, insert, update, delete on atlas.price_factor to service_role;
insert into atlas.price_factor (kind, name, factor) values ('tier', 'default', 1), ('tier', 'flex', 0.5), ('tier', 'fast', 2),
  ('tier', 'priority', 2), ('window', 'soonest', 1), ('window', '2h', 0.7), ('window', '8h', 0.6);

create function atlas.price_on(model_name text, day date) returns atlas.model_price
language sql stable security definer set search_path = ''
as $$
  select p from atlas.model_price p
  where p.model = model_name and p.valid_from <= day
  order by p.valid_from desc limit 1
$$;
comment on function atlas.price_on(text, date) is 'The price row of a model on a day; null where it has none.';
grant execute on function atlas.price_on(text, date) to service_role, atlas_worker;

create function atlas.price_factor_of(p_tier text, p_window text) returns numeric
language sql stable security definer set search_path = ''
as $$
  select coalesce((select f.factor from atlas.price_factor f where f.kind = 'tier' and f.name = p_tier), 1)
    * coalesce((select f.factor from atlas.price_factor f where f.kind = 'window' and f.name = p_window), 1)
$$;
comment on function atlas.price_factor_of(text, text) is
  'What a service tier and a completion window multiply the price by together; 1 for names that are not known.';
grant execute on function atlas.price_factor_of(text, text) to service_role, atlas_worker;

create function atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint default 0,
  factor numeric default 1) returns numeric
language sql immutable set search_path = ''
as $$
  select round((
      ((input - cached - cache_write) * price.input_usd + cached * coalesce(price.cached_usd, price.input_usd)
        + cache_write * coalesce(price.cache_write_usd, price.input_usd))
        * case when input > price.long_input_from then price.long_input_factor else 1 end
      + output * price.output_usd * case when input > price.long_input_from then price.long_output_factor else 1 end
    ) * factor / 1000000, 9)
$$;
comment on function atlas.cost(atlas.model_price, bigint, bigint, bigint, bigint, numeric) is
  'US dollars of a call: input (of which cached, and of which written to the cache) and output tokens (reasoning among them) at a
price row, times the factor of its tier and window.';
grant execute on function atlas.cost(atlas.model_price, bigint, bigint, bigint, bigint, numeric) to service_role, atlas_worker;

create function atlas.worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric default 1) returns numeric
language sql immutable set search_path = ''
as $$
  select case when price.cache_write_usd > price.input_usd then atlas.cost(price, input, 0, output, input, factor)
              else atlas.cost(price, input, 0, output, 0, factor) end
$$;
comment on function atlas.worst_cost(atlas.model_price, bigint, bigint, numeric) is
  'The most that a call can cost: all of its input at the dearest price that input can have.';
grant execute on function atlas.worst_cost(atlas.model_price, bigint, bigint, numeric) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

-- What the fleet learned of each model: its breaker, whether it is gone, how long its replies are. Judged by Postgres's clock
-- alone: a worker's own may be an hour off.
--
--   closed > open         three failures within ten seconds, or every call of five seconds (two at least)
--   open > half_open      a probe that costs nothing is answered
--   half_open > closed    one real call is answered; its failure opens the breaker again

create table atlas.model_state (
  model text primary key,
  state text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
  since timestamptz not null default now(),
  failed_at timestamptz[] not null default '{}',
  succeeded_at timestamptz,
  probe_at timestamptz not null default now(),
  trial_at timestamptz not null default now(),
  trials integer not null default 0 check (trials >= 0),
  last_error text,
  missing_since timestamptz,
  usual_output integer check (usual_output > 0),
  measured_at timestamptz,
  updated_at timestamptz not null default now()
);
comment on table atlas.model_state is 'What the fleet learned of each model: its breaker, and whether it is gone.';
comment on column atlas.model_state.model is 'The model that answered, or was called.';
comment on column atlas.model_state.state is 'closed: it is called. open: it is probed only. half_open: one call is tried.';
comment on column atlas.model_state.since is 'Since when it is in this state.';
comment on column atlas.model_state.failed_at is 'The latest three failures since the last success.';
comment on column atlas.model_state.succeeded_at is 'When it last answered a call, written at most once a second.';
comment on column atlas.model_state.probe_at is 'While it is open: when the next probe is due.';
comment on column atlas.model_state.trial_at is 'While it is half open: from when one call may be tried.';
comment on column atlas.model_state.trials is 'Tried calls that failed in a row; each doubles the pause before the next, up to 5 s.';
comment on column atlas.model_state.last_error is 'What the last failure said.';
comment on column atlas.model_state.missing_since is 'The provider said model_not_found: its successor is called.';
comment on column atlas.model_state.usual_output is 'The 99th percentile of its replies here, in tokens: what a first call reserves.';
comment on column atlas.model_state.measured_at is 'When usual_output was last measured.';
comment on column atlas.model_state.updated_at is 'When the row last changed.';
alter table atlas.model_state enable row level security;
grant select, insert, update, delete on atlas.model_state to service_role;

create function atlas.list_models() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object(
      'priced', p.model is not null, 'breaker', coalesce(s.state, 'closed'), 'breaker_since', s.since,
      'last_error', s.last_error, 'missing_since', s.missing_since, 'usual_output', s.usual_output) order by m.name), '[]')
  from (select x.name, x.shutdown_at, x.successor, x.context_tokens, x.max_output_tokens, x.vocabulary, x.reasoning,
          x.reasoning_effort, x.streams, x.temperature
        from atlas.model x
        union all
        -- a model of somebody's settings that has no row has a breaker all the same
        select y.model, null, null, null, null, null, false, null, true, false from atlas.model_state y
        where not exists (select from atlas.model x where x.name = y.model)) m
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
  'The breaker of destinations: from the third failure in a row it opens, for p_first seconds doubled up to p_longest, half of it
jitter, and never for less than was asked for (300 s at most). Null: it stays closed. Internal.';

create function atlas.record_model(p_model text, p_outcome text, p_error text default null, p_trial boolean default false)
returns text
language plpgsql security definer set search_path = ''
as $$
declare
  was atlas.model_state;
  recent timestamptz[];
  opens boolean;
  result text;
begin
  if p_outcome not in ('ok', 'failed', 'missing') then
    raise exception using errcode = 'AT005', message = format('record_model: outcome %L is not known', p_outcome),
      hint = 'use ok, failed or missing';
  end if;
  insert into atlas.model_state (model) values (p_model) on conflict do nothing;
  select s.* into was from atlas.model_state s where s.model = p_model for no key update;
  recent := (was.failed_at || clock_timestamp())[greatest(1, cardinality(was.failed_at) - 1):];
  opens := (cardinality(recent) = 3 and recent[1] > clock_timestamp() - interval '10 seconds')
    or (cardinality(recent) > 1 and recent[cardinality(recent) - 1] > clock_timestamp() - interval '5 seconds'
        and coalesce(was.succeeded_at, was.since) < clock_timestamp() - interval '5 seconds');
  -- only the call that was tried closes it: what began before the outage may end well all the same
  result := case p_outcome
    when 'failed' then case when was.state <> 'closed' or opens then 'open' else 'closed' end
    when 'ok' then case when was.state = 'closed' or p_trial then 'closed' else was.state end
    else 'closed' end;
  update atlas.model_state s set state = result,
    since = case when s.state = result then s.since else now() end,
    failed_at = case when p_outcome = 'failed' then recent when result = 'closed' then '{}' else s.failed_at end,
    succeeded_at = case p_outcome when 'ok' then clock_timestamp() else s.succeeded_at end,
    probe_at = case when result = 'open' and s.state <> 'open' then clock_timestamp() + interval '1 second' else s.probe_at end,
    trials = case when result = 'closed' then 0 when s.state = 'half_open' then s.trials + 1 else s.trials end,
    last_error = case when p_outcome <> 'ok' then left(p_error, 500) when result = 'closed' then null else s.last_error end,
    missing_since = case p_outcome when 'ok' then null when 'missing' then coalesce(s.missing_since, now())
                                   else s.missing_since end,
    updated_at = now()
  where s.model = p_model;
  if result = 'closed' and was.state <> 'closed' then
    perform atlas.wake_upstream();
  end if;
  return result;
end
$$;
comment on function atlas.record_model(text, text, text, boolean) is
  'Shares what a call learned of a model with the fleet: ok, failed or missing; p_trial: it is the call that was tried. Answers with
the state of its breaker now. A model that answers again wakes what waits for it.';
grant execute on function atlas.record_model(text, text, text, boolean) to service_role, atlas_worker;

create function atlas.take_probes() returns setof text
language sql security definer set search_path = ''
as $$
  update atlas.model_state s set probe_at = clock_timestamp() + interval '1 second'
  where s.model in (
    select d.model from atlas.model_state d
    where d.probe_at <= clock_timestamp() and (d.state = 'open' or (d.state = 'half_open' and d.trial_at <= clock_timestamp()))
    for no key update skip locked)
  returning s.model
$$;
comment on function atlas.take_probes() is
  'The models whose breaker is open, or half open and not tried, and whose probe is due; the caller probes them now.';
grant execute on function atlas.take_probes() to service_role, atlas_worker;

create function atlas.record_probe(p_model text, p_ok boolean, p_error text default null, p_shutdown_at date default null)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if p_ok then
    update atlas.model m set shutdown_at = p_shutdown_at
    where m.name = p_model and p_shutdown_at is not null and m.shutdown_at is distinct from p_shutdown_at;
    if found then
      perform atlas.append_audit(null, 'record_probe', jsonb_build_object('model', p_model, 'shutdown_at', p_shutdown_at));
    end if;
    update atlas.model_state s set state = 'half_open', since = now(), updated_at = now(),
      trial_at = clock_timestamp() + interval '1 second' * case s.trials when 0 then 0 else least(5, 2 ^ s.trials) end
    where s.model = p_model and s.state = 'open';
    -- one task tries a call; who was woken before may have had no call to make
    if found or exists (select from atlas.model_state s where s.model = p_model and s.state = 'half_open'
                        and s.trial_at <= clock_timestamp()) then
      perform atlas.wake_upstream(1);
    end if;
  else
    update atlas.model_state s set last_error = left(p_error, 500), updated_at = now()
    where s.model = p_model and s.state <> 'closed';
  end if;
end
$$;
comment on function atlas.record_probe(text, boolean, text, date) is
  'What a probe of a model found, and the day on which the provider says that it shuts down. One task that waits may try a call.';
grant execute on function atlas.record_probe(text, boolean, text, date) to service_role, atlas_worker;

create function atlas.take_trial(p_model text) returns boolean
language sql security definer set search_path = ''
as $$
  with taken as (
    -- whoever tries and dies is followed by another
    update atlas.model_state s set trial_at = clock_timestamp() + interval '20 seconds'
    where s.model = p_model and s.state = 'half_open' and s.trial_at <= clock_timestamp()
    returning 1
  )
  select exists (select from taken)
    or not exists (select from atlas.model_state s where s.model = p_model and s.state <> 'closed')
$$;
comment on function atlas.take_trial(text) is
  'Whether the caller may call a model now: its breaker is closed, or half open and this is the one call that is tried.';
grant execute on function atlas.take_trial(text) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

-- The provider's rate limits: a bucket a model and unit, filled by what the provider's headers say, from which workers lease
-- blocks before they call, so that the fleet stays under the limit instead of bouncing on 429.

create table atlas.rate_bucket (
  model text not null,
  unit text not null check (unit in ('requests', 'tokens')),
  per_minute bigint not null check (per_minute > 0),
  level numeric(20, 3) not null,
  as_of timestamptz not null default clock_timestamp(),
  blocked_until timestamptz,
  primary key (model, unit),
  constraint level_within_limit check (level between 0 and per_minute)
);
comment on table atlas.rate_bucket is 'The provider''s rate limits of a model; a model without rows has none that is known.';
comment on column atlas.rate_bucket.model is 'The model that is called.';
comment on column atlas.rate_bucket.unit is 'requests or tokens.';
comment on column atlas.rate_bucket.per_minute is 'The limit, as x-ratelimit-limit-* said it last.';
comment on column atlas.rate_bucket.level is 'What was left at as_of; it fills up within a minute.';
comment on column atlas.rate_bucket.as_of is 'When level was true.';
comment on column atlas.rate_bucket.blocked_until is 'The provider said 429: nothing is leased before this time.';
comment on constraint level_within_limit on atlas.rate_bucket is 'A bucket holds at most a minute''s worth.';
alter table atlas.rate_bucket enable row level security;
grant select on atlas.rate_bucket to service_role;

create function atlas.lease_rate(p_model text, p_requests bigint, p_tokens bigint) returns jsonb
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  bucket record;
  need numeric;
  pause numeric := 0;
  share numeric;
  granted jsonb := jsonb '{}';
begin
  for bucket in
    select b.unit, b.per_minute, b.blocked_until,
      least(b.per_minute, b.level + extract(epoch from clock_timestamp() - b.as_of) * b.per_minute / 60) as level
    from atlas.rate_bucket b where b.model = p_model order by b.unit for no key update
  loop
    -- what is larger than the whole bucket waits until it is full
    need := least(bucket.per_minute, case bucket.unit when 'requests' then p_requests else p_tokens end);
    pause := greatest(pause, (need - bucket.level) * 60 / bucket.per_minute,
      coalesce(extract(epoch from bucket.blocked_until - clock_timestamp()), 0));
    share := floor(least(bucket.level, greatest(need, bucket.per_minute / 60.0)));
    granted := granted || jsonb_build_object(bucket.unit, share);
  end loop;
  if pause > 0 then
    return jsonb_build_object('wait', pause);
  end if;
  update atlas.rate_bucket b set as_of = clock_timestamp(),
    level = greatest(0, least(b.per_minute, b.level + extract(epoch from clock_timestamp() - b.as_of) * b.per_minute / 60)
      - (granted ->> b.unit)::numeric)
  where b.model = p_model;
  return granted;
end
$$;
comment on function atlas.lease_rate(text, bigint, bigint) is
  'Leases requests and tokens of a model''s rate limit: {"requests", "tokens"}, about a second''s worth or what is asked for; a unit
that is missing has no limit; {"wait": seconds} where it has to be waited for.';
grant execute on function atlas.lease_rate(text, bigint, bigint) to service_role, atlas_worker;

create function atlas.record_rate(p_model text, p_limits jsonb, p_retry_after interval default null) returns void
language sql security definer set search_path = ''
as $$
  insert into atlas.rate_bucket as b (model, unit, per_minute, level, blocked_until)
  select p_model, l.unit, l.per_minute, greatest(0, least(l.per_minute, l.remaining)), clock_timestamp() + case when p_retry_after is not null then atlas.bounded(p_retry_after, '0', '1 day') end
  from jsonb_to_recordset(p_limits) as l (unit text, per_minute bigint, remaining numeric)
  where l.per_minute > 0 and l.unit in ('requests', 'tokens')
  order by l.unit
  on conflict (model, unit) do update set per_minute = excluded.per_minute, as_of = clock_timestamp(),
    blocked_until = coalesce(excluded.blocked_until, b.blocked_until),
    -- what other workers have leased and not used yet is missing in the header: the smaller one is true
    level = greatest(0, least(excluded.level, excluded.per_minute,
      b.level + extract(epoch from clock_timestamp() - b.as_of) * b.per_minute / 60))
$$;
comment on function atlas.record_rate(text, jsonb, interval) is
  'What a response''s x-ratelimit-* headers say: [{"unit", "per_minute", "remaining"}]; p_retry_after where it was a 429.';
grant execute on function atlas.record_rate(text, jsonb, interval) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;

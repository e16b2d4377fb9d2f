-- The hot functions keep one plan each. Their statements take arrays and JSON of any length, so Postgres would plan them
-- anew at every call, which costs more than running them; and a plan that was made while the tables were small must not
-- keep scanning them when they have grown.
do $$
declare
  hot text;
begin
  foreach hot in array array[
    'atlas.queue_messages()', 'atlas.next_tasks(integer, integer)', 'atlas.claim_tasks(uuid, integer, integer, interval)',
    'atlas.extend_leases(uuid, uuid[], interval)', 'atlas.record_progress(jsonb)', 'atlas.reserve_tokens(jsonb)',
    'atlas.lock_days(date[], text[])', 'atlas.settle_spends(jsonb)', 'atlas.settle_attempts(uuid[], jsonb, boolean)',
    'atlas.wake_waiting(text[], integer, boolean)', 'atlas.complete_tasks(jsonb)', 'atlas.append_audits(text, uuid[], jsonb[])',
    'atlas.fill_outbox()', 'atlas.claim_outbox(uuid, integer, interval)'
  ] loop
    execute format('alter function %s set plan_cache_mode = force_generic_plan', hot);
    execute format('alter function %s set enable_seqscan = off', hot);
  end loop;
end
$$;

-- Workers and this schema are upgraded apart, so each says which versions of the protocol between them it speaks.

create function atlas.protocols() returns int4range
language sql immutable parallel safe set search_path = ''
as $$ select int4range(1, 1, '[]') $$;
comment on function atlas.protocols() is
  'Versions of the protocol that these functions serve: that of this release, and that of the release before it.';
grant execute on function atlas.protocols() to service_role, atlas_worker, atlas_rag;

-- For migrations that end a protocol: they fail, and change nothing, while a worker that speaks it is alive.
create function atlas.require_protocol(p_oldest integer) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_worker record;
begin
  select w.name, w.version, count(*) over () as others into v_worker from atlas.worker w
  where w.protocol < p_oldest and w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'
  order by w.seen_at desc limit 1;
  if found then
    raise exception using errcode = 'AT005',
      message = format('worker %s (version %s) still runs, and the new schema no longer serves it (%s such workers)',
        v_worker.name, v_worker.version, v_worker.others),
      hint = 'Upgrade those workers first, to a version that speaks both; then run `atlas migrate` again.';
  end if;
end
$$;
comment on function atlas.require_protocol(integer) is 'Fails while a worker is alive that speaks an older protocol. For migrations.';

revoke execute on all functions in schema atlas, rag from public;

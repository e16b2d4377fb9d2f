-- Streams to people: each part of a running reply goes out on the private topic task:<task_id>, in the commit that stores it,
-- so that whoever was told of a part can read it, and the rest, in atlas.reply_part.

alter table atlas.reply_part add column seq integer not null default 0 check (seq >= 0);
comment on column atlas.reply_part.seq is 'Which part of its attempt, from 1; rises over generations.';

create function atlas.number_part() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  select p.seq + 1 into new.seq from atlas.reply_part p where p.attempt_id = new.attempt_id
  order by p.generation desc, p."offset" desc limit 1;
  new.seq := coalesce(new.seq, 1);
  return new;
end
$$;
comment on function atlas.number_part() is 'Numbers the parts of an attempt.';
create trigger number_part before insert on atlas.reply_part for each row execute function atlas.number_part();

-- offset 0 begins a generation: after the first one, what readers have shown is void, and they are told so.
create function atlas.broadcast_parts() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.send(m.payload, m.event, 'task:' || m.task_id, true)
  from (
    select n.task_id, n.attempt_id, n.seq, 0 as place, 'reset' as event,
      jsonb_build_object('attempt', a.number, 'generation', n.generation, 'offset', 0) as payload
    from new_parts n join atlas.attempt a on a.id = n.attempt_id
    where n."offset" = 0 and (n.seq > 1 or a.number > 1)
    union all
    select n.task_id, n.attempt_id, n.seq, 1, 'delta',
      jsonb_build_object('attempt', a.number, 'generation', n.generation, 'seq', n.seq, 'offset', n."offset", 'text', n.text)
    from new_parts n join atlas.attempt a on a.id = n.attempt_id
    order by attempt_id, seq, place
  ) m;
  return null;
end
$$;
comment on function atlas.broadcast_parts() is 'Broadcasts new parts: delta, and reset where a generation begins anew.';
create trigger broadcast_parts after insert on atlas.reply_part
  referencing new table as new_parts for each statement execute function atlas.broadcast_parts();

-- One limiter for the fleet: workers stretch the interval between parts by the number of streams of all of them.
create function atlas.count_streams() returns integer
language sql stable security definer set search_path = ''
as $$
  select count(*)::integer from atlas.attempt a where a.state = 'running'
$$;
comment on function atlas.count_streams() is 'How many attempts the whole fleet runs now.';
grant execute on function atlas.count_streams() to service_role, atlas_worker;

alter function atlas.number_part() set plan_cache_mode = force_generic_plan;
alter function atlas.broadcast_parts() set plan_cache_mode = force_generic_plan;

revoke execute on all functions in schema atlas, rag from public;

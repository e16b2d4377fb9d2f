-- Watches: who reads which running reply now. Broadcasts go to watched streams only, within the rate of the whole project.

-- Unlogged: a watch is renewed every ten seconds, and one that a crash forgets comes back by itself.
create unlogged table atlas.watch (
  task_id uuid not null references atlas.task (id),
  reader uuid not null,
  user_id uuid,
  expires_at timestamptz not null,
  sent_at timestamptz,
  sent_attempt integer check (sent_attempt > 0),
  sent_generation integer check (sent_generation >= 0),
  sent_to integer check (sent_to >= 0),
  primary key (task_id, reader),
  check (num_nulls(sent_at, sent_attempt, sent_generation, sent_to) in (0, 4))
);
create index watch_user on atlas.watch (user_id);
create index watch_expiry on atlas.watch (expires_at);
comment on table atlas.watch is 'Who follows which task over Realtime now; broadcasts of text are for these.';
comment on column atlas.watch.task_id is 'The task it belongs to.';
comment on column atlas.watch.reader is 'An id that the reader made for itself: one a window or a terminal.';
comment on column atlas.watch.user_id is 'auth.users.id of the person; null for the service role.';
comment on column atlas.watch.expires_at is 'When it ends unless atlas.watch_task renews it.';
comment on column atlas.watch.sent_at is 'When text was last broadcast while it was watched.';
comment on column atlas.watch.sent_attempt is 'The attempt whose text that was.';
comment on column atlas.watch.sent_generation is 'The generation whose text that was.';
comment on column atlas.watch.sent_to is 'Unicode code points of that generation that were broadcast, or stood before.';
alter table atlas.watch enable row level security;
create policy "people see their own watches" on atlas.watch for select to authenticated using (user_id = (select auth.uid()));
comment on policy "people see their own watches" on atlas.watch is 'Row level security: people see their own watches.';
grant select on atlas.watch to authenticated, service_role;

create function atlas.watch_task(p_task_id uuid, p_reader uuid) returns timestamptz
language plpgsql security definer set search_path = ''
as $$
declare
  most constant integer := 50;
  v_expires_at timestamptz := clock_timestamp() + interval '30 seconds';
begin
  if p_reader is null then
    perform atlas.refuse('p_reader', 'is missing', 'send a UUID of your own making, the same at each renewal');
  end if;
  if not exists (select from atlas.task t where t.id = p_task_id) or not (atlas.is_service() or atlas.owns_task(p_task_id)) then
    raise exception using errcode = 'AT004', message = format('no task %s of yours', p_task_id), hint = 'see atlas.task_history';
  end if;
  update atlas.watch w set expires_at = v_expires_at where w.task_id = p_task_id and w.reader = p_reader
    and w.user_id is not distinct from atlas.uid();
  if found then
    return v_expires_at;
  end if;
  if (select count(*) from atlas.watch w where w.task_id = p_task_id and w.expires_at > now()) >= most
     or (select count(*) from atlas.watch w where w.user_id = atlas.uid() and w.expires_at > now()) >= most then
    return null;
  end if;
  insert into atlas.watch (task_id, reader, user_id, expires_at) values (p_task_id, p_reader, atlas.uid(), v_expires_at)
  on conflict do nothing;
  if not found then
    return null;
  end if;
  -- last, and only what nobody holds: whoever waits for another's row holds none itself
  delete from atlas.watch w where (w.task_id, w.reader) in (
    select o.task_id, o.reader from atlas.watch o where o.expires_at < now() - interval '1 minute'
    order by o.expires_at limit 20 for update skip locked);
  return v_expires_at;
end
$$;
comment on function atlas.watch_task(uuid, uuid) is
  'Asks for broadcasts of a task''s text for 30 seconds, and renews that; answers when it ends. Null: too many watch already (50 a task, 50 a person), read the tables.';
grant execute on function atlas.watch_task(uuid, uuid) to authenticated, service_role;

-- What of the project's rate is left for text. Wake-ups come first: an insert is one event, and one or two at each worker; its
-- task brings two rows of architect_out and a first text to a reader.
create function atlas.broadcast_interval(p_rate double precision) returns interval
language sql stable security definer set search_path = ''
as $$
  select case when r.free > 0 then r.events / r.free * interval '1 second' end
  from (
    select
      (select count(*) + count(distinct w.task_id) from atlas.watch w join atlas.task t on t.id = w.task_id
       where w.expires_at > now() and t.state = 'running') as events,
      p_rate - (select count(*) from (select i.created_at from public.architect_in i order by i.id desc limit 500) i
                where i.created_at > now() - interval '10 seconds') / 10.0
             * (5 + 2 * (select count(*) from atlas.worker w where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'))
        as free
  ) r
$$;
comment on function atlas.broadcast_interval(double precision) is
  'How long from one broadcast of a watched stream to the next, for the whole project to stay within so many Realtime events a second; null while wake-ups need all of them. Internal.';

-- A broadcast carries all that came since the one before. The first text of a stream, of a generation, and after somebody began
-- to watch goes at once; the rest when the interval is over. Offset 0 after the first generation voids what readers have shown,
-- and they are told so. What an attempt inherited is shown already: readers go on by the offset.
create function atlas.broadcast_parts(p_attempts uuid[], p_rate double precision) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan
as $$
declare
  pause interval;
  stream record;
begin
  if not exists (select from atlas.watch w join atlas.attempt a on a.task_id = w.task_id
                 where a.id = any (p_attempts) and w.expires_at > now()) then
    return;
  end if;
  pause := atlas.broadcast_interval(p_rate);
  for stream in
    select a.task_id, a.number, a.generation, s.starts, p.ends, p.seq, p.text
    from atlas.attempt a
    cross join lateral (
      select max(w.sent_at) as sent_at,
        max(w.sent_to) filter (where w.sent_attempt = a.number and w.sent_generation = a.generation) as sent_to
      from atlas.watch w where w.task_id = a.task_id and w.expires_at > now() having count(*) > 0) w
    cross join lateral (
      select coalesce(w.sent_to, (select min(n."offset") from atlas.reply_part n
        where n.attempt_id = a.id and n.generation = a.generation and not n.inherited and n.created_at = now())) as starts) s
    cross join lateral (
      select string_agg(n.text, '' order by n."offset") as text, max(n.seq) as seq, max(n."offset" + length(n.text)) as ends
      from atlas.reply_part n
      where n.attempt_id = a.id and n.generation = a.generation and not n.inherited and n."offset" >= s.starts) p
    where a.id = any (p_attempts) and p.text is not null and (w.sent_to is null or w.sent_at + pause <= now())
    order by a.task_id
  loop
    if stream.starts = 0 and (stream.number > 1 or stream.generation > 0) then
      perform realtime.send(jsonb_build_object('attempt', stream.number, 'generation', stream.generation, 'offset', 0),
        'reset', 'task:' || stream.task_id, true);
    end if;
    perform realtime.send(jsonb_build_object('attempt', stream.number, 'generation', stream.generation, 'seq', stream.seq,
      'offset', stream.starts, 'text', stream.text), 'delta', 'task:' || stream.task_id, true);
    update atlas.watch w set sent_at = now(), sent_attempt = stream.number, sent_generation = stream.generation, sent_to = stream.ends
    where w.task_id = stream.task_id and w.expires_at > now();
  end loop;
end
$$;
comment on function atlas.broadcast_parts(uuid[], double precision) is
  'Broadcasts new text of watched streams, within so many Realtime events a second of the whole project. Internal.';

revoke execute on all functions in schema atlas, rag from public;

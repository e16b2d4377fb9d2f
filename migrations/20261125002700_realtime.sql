-- Who may follow a running reply over Realtime: its owner, and the members of its project. In a migration of its own:
-- hosted Supabase owns realtime.messages and allows policies on it, nothing else (no comment on them either).

create policy "people follow the tasks they may read" on realtime.messages for select to authenticated
  using (
    (select realtime.topic()) like 'task:%'
    and (select atlas.owns_task(atlas.as_uuid(substr(realtime.topic(), 6))))
  );

-- The nightly refresh by pg_cron, as the owner of the database: Supabase has it under Integrations > Cron. The jobs that it makes are
-- done by `atlas rag serve` or `atlas rag worker`. Run again after a change: a job of the same name is replaced.
create extension if not exists pg_cron;
select cron.schedule('atlas-index-refresh', '17 3 * * *', 'select rag.refresh_all()');

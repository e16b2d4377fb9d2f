-- Atlas shares a database. An earlier form of the first migration changed the default rights of all functions that its owner
-- makes, in every schema; this gives them back, and changes nothing where they were never taken.
alter default privileges grant execute on functions to public;

-- Who may do what. Tables belong to lineitem_owner, which nobody logs in as; the pipeline acts as lineitem_post, which may
-- only do what a batch needs; people and reports read as lineitem_read, under row-level security by namespace.
do $$
begin
  if not exists (select from pg_roles where rolname = 'lineitem_owner') then
    create role lineitem_owner nologin;
  end if;
  if not exists (select from pg_roles where rolname = 'lineitem_post') then
    -- COPY FROM is refused on a table whose row-level security applies to the role, hence bypassrls.
    create role lineitem_post nologin bypassrls;
  end if;
  if not exists (select from pg_roles where rolname = 'lineitem_read') then
    create role lineitem_read nologin;
  end if;
exception when unique_violation or duplicate_object then
  null;  -- another database of this server is being migrated at the same moment and made the same roles
end $$;

grant lineitem_owner, lineitem_post, lineitem_read to current_user;

create schema catalog authorization lineitem_owner;
create schema ingest authorization lineitem_owner;
create schema ledger authorization lineitem_owner;
create schema billing authorization lineitem_owner;

grant usage on schema catalog, ingest, ledger, billing to lineitem_post, lineitem_read;
revoke create on schema public from public;

-- One trigger function guards every table that may only grow.
create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '%.% is append-only: % refused', tg_table_schema, tg_table_name, tg_op
    using errcode = 'insufficient_privilege',
          hint = 'Correct by a reversal and a replacement, never by changing a row.';
end $$;
alter function ledger.refuse_change() owner to lineitem_owner;

create procedure ledger.make_append_only(target regclass) language plpgsql as $$
begin
  execute format('create trigger append_only before update or delete on %s
                  for each row execute function ledger.refuse_change()', target);
  execute format('create trigger append_only_truncate before truncate on %s
                  for each statement execute function ledger.refuse_change()', target);
  -- ALWAYS: session_replication_role = replica would skip an ordinary trigger.
  execute format('alter table %s enable always trigger append_only', target);
  execute format('alter table %s enable always trigger append_only_truncate', target);
end $$;
alter procedure ledger.make_append_only(regclass) owner to lineitem_owner;

-- Rows of one namespace only, for readers. The session names its namespace; without one nothing is visible.
create procedure ledger.isolate_namespace(target regclass) language plpgsql as $$
begin
  execute format('alter table %s enable row level security', target);
  execute format('create policy namespace_only on %s for select to lineitem_read using
                  (namespace_key = nullif(current_setting(''lineitem.namespace_key'', true), '''')::int)', target);
  execute format('grant select on %s to lineitem_read', target);
end $$;
alter procedure ledger.isolate_namespace(regclass) owner to lineitem_owner;

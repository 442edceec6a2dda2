-- Named backfills, and the accepted events of those that were reverted: their identities are free again, their places stay known.
set local role lineitem_owner;

-- A name is spent once it was reverted. Which passes belong to it stands in their settings, which every batch's hash covers.
create table ingest.backfill (
  namespace_key  int not null references catalog.namespace,
  name           text not null,
  reverted_batch bigint,                            -- of lane 0: the first one of its revert; null while events may come in
  primary key (namespace_key, name)
);

-- What stood in ingest.identity until a backfill was reverted.
create table ingest.reverted_event (
  key            uuid not null,
  digest         uuid not null,
  batch          bigint not null,
  ordinal        int not null,
  namespace_key  int not null,
  lane           smallint not null,
  reverted_batch bigint not null,                   -- of lane 0
  primary key (lane, batch, ordinal)
);
create index on ingest.reverted_event (key);

-- An identity may go once all that it says stands in ingest.reverted_event, which only grows.
create function ingest.keep_identity() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and exists (
    select from ingest.reverted_event r where (r.lane, r.batch, r.ordinal) = (old.lane, old.batch, old.ordinal)
      and (r.key, r.digest, r.namespace_key) = (old.key, old.digest, old.namespace_key)
  ) then
    return old;
  end if;
  raise exception 'ingest.identity is append-only: % refused', tg_op using errcode = 'insufficient_privilege',
    hint = 'An event is taken back with `lineitem retract`, a whole backfill with `lineitem backfill revert`.';
end $$;
create or replace trigger append_only before update or delete on ingest.identity
  for each row execute function ingest.keep_identity();
alter table ingest.identity enable always trigger append_only;

-- The one way for the posting role to let identities go.
create function ingest.free_identities(wanted uuid[]) returns void
language sql security definer set search_path = ingest, pg_temp as $$
  delete from ingest.identity i using ingest.reverted_event r
  where i.key = any(wanted) and (r.lane, r.batch, r.ordinal) = (i.lane, i.batch, i.ordinal);
$$;
revoke execute on function ingest.free_identities(uuid[]) from public;
grant execute on function ingest.free_identities(uuid[]) to lineitem_post;

grant select, insert on ingest.backfill, ingest.reverted_event to lineitem_post;
grant update (reverted_batch) on ingest.backfill to lineitem_post;

call ledger.make_append_only('ingest.reverted_event');
call ledger.isolate_namespace('ingest.backfill');
call ledger.isolate_namespace('ingest.reverted_event');

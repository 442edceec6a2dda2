-- Raw segments in the ledger's own database, for workers that share no disk (LINEITEM_SEGMENTS=database).
set local role lineitem_owner;

create table ingest.segment (
  name        text primary key,                     -- as in ledger.batch
  content     bytea not null,
  created_at  timestamptz not null default now()    -- for people; no batch's clock
);
alter table ingest.segment alter column content set storage external;   -- Parquet is compressed already

-- Write-once; what no batch refers to, an orphan, may go.
create function ingest.keep_segment() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and not exists (select from ledger.batch where segment = old.name) then
    return old;
  end if;
  raise exception '% of raw segment % refused: a batch refers to it', lower(tg_op), old.name
    using errcode = 'insufficient_privilege', hint = 'Segments are never replaced; only orphans can be removed.';
end $$;
create trigger append_only before update or delete on ingest.segment for each row execute function ingest.keep_segment();
create trigger append_only_truncate before truncate on ingest.segment
  for each statement execute function ledger.refuse_change();
alter table ingest.segment enable always trigger append_only;
alter table ingest.segment enable always trigger append_only_truncate;

grant select, insert, delete on ingest.segment to lineitem_post;

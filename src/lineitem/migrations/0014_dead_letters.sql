-- Dead letters as a work queue: what was done with each (mended, tried again, discarded); its state follows from that.
set local role lineitem_owner;

-- The catalog revision under which a record was first set aside: trying it again makes sense once the catalog has moved.
alter table ingest.dead_letter add column revision bigint;
alter table ingest.dead_letter disable trigger append_only;
update ingest.dead_letter d set revision = b.catalog_revision from ledger.batch b where (b.lane, b.batch) = (d.lane, d.batch);
alter table ingest.dead_letter enable always trigger append_only;
alter table ingest.dead_letter alter column revision set not null;

-- Mirrors facts of the chain (letter_fix, letter_replay, letter_discard), one row for each letter that a fact names.
create table ingest.letter_act (
  dead_letter_key bigint not null references ingest.dead_letter,
  number         int not null,                      -- 1, 2, 3, ... of the letter: two who act on one state meet here
  namespace_key  int not null references catalog.namespace,
  act            text not null check (act in ('fix', 'replay', 'discard')),
  outcome        text check (outcome in ('accepted', 'duplicate', 'dead_letter')),
  event_key      uuid,                              -- replay: the identity the record had, mended or not
  reason         smallint,                          -- replay: the code it was set aside with again
  detail         text,
  patch          text,                              -- fix: canonical JSON, ingest.patch
  note           text not null,                     -- why
  actor          text not null,
  acted_us       bigint not null,                   -- of the batch, microseconds since the epoch
  revision       bigint not null,                   -- of the batch's catalog
  lane           smallint not null,
  batch          bigint not null,
  ordinal        int not null,                      -- the letter's place in the fact; for a replay also its record in the batch
  primary key (dead_letter_key, number),
  check ((act = 'replay') = (outcome is not null) and (act = 'fix') = (patch is not null))
);

grant select, insert on ingest.letter_act to lineitem_post;
call ledger.make_append_only('ingest.letter_act');
call ledger.isolate_namespace('ingest.letter_act');

-- A dead letter as it stands: open, replayed (accepted, or a duplicate of what was) or discarded.
create view ingest.letter with (security_invoker = true) as
select d.dead_letter_key, d.namespace_key, d.fingerprint, d.stream, d.position, d.event_key, d.digest, d.raw, d.raw_bytes,
  d.lane, d.batch, d.ordinal, d.first_seen_at, d.reason as first_reason, coalesce(f.reason, d.reason) as reason,
  coalesce(f.detail, d.detail) as detail,
  case when a.act = 'discard' then 'discarded' when a.outcome in ('accepted', 'duplicate') then 'replayed' else 'open' end as state,
  coalesce(n.acts, 0) as acts, coalesce(n.attempts, 0) as attempts, coalesce(n.failures, 0) as failures,
  coalesce(n.fixes, 0) as fixes, n.last_attempt_us, greatest(d.revision, n.last_revision) as revision
from ingest.dead_letter d
left join lateral (
  select count(*)::int as acts, (count(*) filter (where x.act = 'replay'))::int as attempts,
    (count(*) filter (where x.act = 'fix'))::int as fixes, (count(*) filter (where x.outcome = 'dead_letter'))::int as failures,
    max(x.number) filter (where x.act <> 'fix') as decided, max(x.number) filter (where x.outcome = 'dead_letter') as failed,
    max(x.acted_us) filter (where x.act = 'replay') as last_attempt_us,
    max(x.revision) filter (where x.act = 'replay') as last_revision
  from ingest.letter_act x where x.dead_letter_key = d.dead_letter_key
) n on true
left join ingest.letter_act a on a.dead_letter_key = d.dead_letter_key and a.number = n.decided
left join ingest.letter_act f on f.dead_letter_key = d.dead_letter_key and f.number = n.failed;

grant select on ingest.letter to lineitem_post, lineitem_read;

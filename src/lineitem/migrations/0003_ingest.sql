-- Where usage comes from, which events were accepted, and what was set aside.
set local role lineitem_owner;

-- A source partition and the position the next batch starts at (compare-and-set, never moved without its rows).
create table ingest.partition (
  partition_key  int generated always as identity primary key,
  namespace_key  int not null references catalog.namespace,
  stream         text not null,
  content        text not null,                     -- SHA-256 of the file, hex
  pass           int not null,
  lane           smallint not null,
  format         text not null,
  settings       text not null,                     -- canonical JSON: all the decoder needs to decode again
  next           bigint not null default 0,
  completed_at   timestamptz,
  unique (namespace_key, stream, content, pass)
);

-- Accepted events, kept for good. The key is a hash of (namespace, source, id); the place is where it was first accepted.
create table ingest.identity (
  key            uuid not null,
  digest         uuid not null,
  batch          bigint not null,
  ordinal        int not null,
  namespace_key  int not null,
  lane           smallint not null,
  constraint identity_pkey primary key (key)
) with (autovacuum_vacuum_insert_scale_factor = 0.5);

-- Usage that did not happen: the event stays where it is, the totals are folded again without it.
create table ingest.retraction (
  key            uuid primary key references ingest.identity,
  namespace_key  int not null,
  reason         text not null,
  lane           smallint not null,
  batch          bigint not null
);

create table ingest.dead_letter (
  dead_letter_key bigint generated always as identity primary key,
  namespace_key  int not null references catalog.namespace,
  fingerprint    uuid not null unique,              -- identity, digest and code; or place, raw bytes and code
  reason         smallint not null,                 -- core.reasons.Reason
  detail         text not null,
  stream         text not null,
  position       bigint not null,
  event_key      uuid,
  digest         uuid,
  raw            bytea not null,
  raw_bytes      int not null,                      -- length as received; raw may be cut
  lane           smallint not null,
  batch          bigint not null,
  ordinal        int not null,
  first_seen_at  timestamptz not null
);

create table ingest.dead_letter_sighting (
  lane           smallint not null,
  batch          bigint not null,
  ordinal        int not null,
  dead_letter_key bigint not null references ingest.dead_letter,
  namespace_key  int not null,
  primary key (lane, batch, ordinal)
);
create index on ingest.dead_letter_sighting (dead_letter_key);

grant select, insert on all tables in schema ingest to lineitem_post;
grant update (next, completed_at) on ingest.partition to lineitem_post;

call ledger.make_append_only('ingest.identity');
call ledger.make_append_only('ingest.retraction');
call ledger.make_append_only('ingest.dead_letter');
call ledger.make_append_only('ingest.dead_letter_sighting');
call ledger.isolate_namespace('ingest.partition');
call ledger.isolate_namespace('ingest.retraction');
call ledger.isolate_namespace('ingest.dead_letter');
call ledger.isolate_namespace('ingest.dead_letter_sighting');

-- Sequence numbers of producers: which were seen, so that the holes between them show what was lost on the way.
set local role lineitem_owner;

-- A producer is a source of a namespace that ever sent a sequence. Its row is locked while a batch adds what it saw.
create table ingest.producer (
  producer_key   int generated always as identity primary key,
  namespace_key  int not null references catalog.namespace,
  source         text not null,
  steps          int not null default 0,            -- batches that saw it
  low            bigint,                            -- lowest and highest number seen so far
  high           bigint,
  unreadable     bigint not null default 0,         -- records whose sequence is no number we count
  unique (namespace_key, source)
);

-- What one batch saw of one producer. A fact of the batch has a digest over these rows; raw segments say the same.
create table ingest.sequence_step (
  producer_key   int not null references ingest.producer,
  number         int not null,                      -- 1, 2, 3, ... of the producer
  namespace_key  int not null,
  lane           smallint not null,
  batch          bigint not null,
  recorded_us    bigint not null,                   -- of the batch, microseconds since the epoch
  low            bigint,                            -- lowest and highest number seen up to and with this step
  high           bigint,
  accepted       int8multirange not null,           -- of events the batch accepted
  repeated       int8multirange not null,           -- of events that were in the ledger before
  set_aside      int8multirange not null,           -- of dead letters
  doubled        int8multirange not null,           -- that two accepted events of the batch had
  unreadable     int not null,
  primary key (producer_key, number)
);
-- When a number was first passed, from above and from below: one look-up each, for low only falls and high only rises.
create index on ingest.sequence_step (producer_key, high, number);
create index on ingest.sequence_step (producer_key, low desc, number);

-- The union of the steps, in blocks of 65,536 numbers.
create table ingest.sequence_block (
  producer_key   int not null references ingest.producer,
  block          bigint not null,                   -- number >> 16
  namespace_key  int not null,
  accepted       int8multirange not null,
  repeated       int8multirange not null,
  set_aside      int8multirange not null,
  reused         int8multirange not null,           -- that two accepted events had
  primary key (producer_key, block)
) with (fillfactor = 50);

-- Of each producer: numbers between its lowest and highest that were never seen; those of dead letters that no event in the
-- ledger has; those that two events have.
create view ingest.producer_numbers with (security_invoker = true) as
select p.producer_key, p.namespace_key, p.source, int8multirange(int8range(p.low, p.high + 1)) - k.taken - k.set_aside as missing,
  k.set_aside - k.taken as set_aside, k.reused
from ingest.producer p cross join lateral (
  select range_agg(b.accepted + b.repeated) as taken, range_agg(b.set_aside) as set_aside, range_agg(b.reused) as reused
  from ingest.sequence_block b where b.producer_key = p.producer_key
) k;

grant select, insert on ingest.producer, ingest.sequence_step, ingest.sequence_block to lineitem_post;
grant update (steps, low, high, unreadable) on ingest.producer to lineitem_post;
grant update (accepted, repeated, set_aside, reused) on ingest.sequence_block to lineitem_post;
call ledger.make_append_only('ingest.sequence_step');
call ledger.isolate_namespace('ingest.producer');
call ledger.isolate_namespace('ingest.sequence_step');
call ledger.isolate_namespace('ingest.sequence_block');
grant select on ingest.producer_numbers to lineitem_post, lineitem_read;

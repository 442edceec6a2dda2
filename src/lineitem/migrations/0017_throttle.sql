-- Switches that people set while usage comes in, and the records that a switch has made wait.
set local role lineitem_owner;

-- Mirrors facts of the chain (throttle_set, throttle_clear). A target keeps its number for good; its newest change counts.
create table ingest.throttle (
  namespace_key  int not null references catalog.namespace,
  number         int not null,
  change         int not null,                      -- 1, 2, 3, ... of the number: two who act at once meet here
  act            text not null check (act in ('set', 'clear')),
  what           text not null check (what in ('account', 'type', 'source', 'each_account')),
  name           text not null,                     -- of the account, type or source; '' for each_account
  per_second     int check (per_second > 0),        -- null: pause
  until_us       bigint,                            -- microseconds since the epoch; null: until it is cleared
  note           text not null,                     -- why
  actor          text not null,
  acted_us       bigint not null,                   -- of the batch
  lane           smallint not null,
  batch          bigint not null,
  primary key (namespace_key, number, change)
);

-- How far the allowance of a limited number is used up. Says when, never what or how much is billed: nothing of the ledger.
create table ingest.throttle_pace (
  namespace_key  int not null references catalog.namespace,
  number         int not null,
  free_us        bigint not null,                   -- when what was let through so far has had its time
  primary key (namespace_key, number)
);

-- Records of one batch that wait because of one number: a source partition of their own, which is read when they may go on.
-- Mirrors facts of the chain (held).
create table ingest.held (
  lane           smallint not null,
  batch          bigint not null,
  part           smallint not null,
  namespace_key  int not null references catalog.namespace,
  number         int not null,                      -- of ingest.throttle
  account        text,                              -- whose limit it was, under each_account
  reason         smallint not null,                 -- core.reasons.Reason
  records        int not null,
  ordinals       bytea not null,                    -- of the records in the batch: int32 big-endian, ascending
  keys           bytea not null,                    -- identity keys of their events, 16 bytes each
  held_us        bigint not null,                   -- of the batch
  partition_key  int not null unique references ingest.partition,
  primary key (lane, batch, part)
);
create index on ingest.partition (partition_key) where stream = 'held' and completed_at is null;

grant select, insert on ingest.throttle, ingest.held to lineitem_post;
grant select, insert, update on ingest.throttle_pace to lineitem_post;
call ledger.make_append_only('ingest.throttle');
call ledger.make_append_only('ingest.held');
call ledger.isolate_namespace('ingest.throttle');
call ledger.isolate_namespace('ingest.throttle_pace');
call ledger.isolate_namespace('ingest.held');

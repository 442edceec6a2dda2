-- Levels: readings of `time_weighted` meters, which carry over from month to month and are settled, not rated.
set local role lineitem_owner;

create table ledger.level (
  namespace_key  int not null,
  account_key    int not null,
  meter          text not null,
  time_us        bigint not null,                   -- the event's time
  key            uuid not null,                     -- its identity
  value          numeric(38) not null,              -- at the meter's scale
  waiting        boolean not null,                  -- until the month it lies in is settled
  seen           boolean not null,                  -- whether the months settled after it count it
  primary key (namespace_key, account_key, meter, time_us, key)
);
create index level_waiting on ledger.level (namespace_key, account_key, meter, time_us) where waiting;
create index level_unseen on ledger.level (namespace_key, account_key, meter, time_us) where not seen;

grant select, insert, delete on ledger.level to lineitem_post;
grant update (waiting, seen) on ledger.level to lineitem_post;
call ledger.isolate_namespace('ledger.level');

-- Levels: readings of `time_weighted` meters, which carry over from month to month and are settled, not rated.
set local role lineitem_owner;

create table ledger.level (
  namespace_key  int not null,
  account_key    int not null,
  meter          text not null,
  time_us        bigint not null,                   -- the event's time
  key            uuid not null,                     -- its identity
  value          numeric(38) not null,              -- at the meter's scale
  waiting        boolean not null,                  -- whether no settled month counts it yet
  primary key (namespace_key, account_key, meter, time_us, key)
);
create index level_waiting on ledger.level (namespace_key, account_key, meter, time_us) where waiting;

grant select, insert, delete on ledger.level to lineitem_post;
grant update (waiting) on ledger.level to lineitem_post;
call ledger.isolate_namespace('ledger.level');

-- Per-event prices: running usage keeps the sum of its events' charges, and who used up an allowance.
set local role lineitem_owner;

alter table ledger.accumulator
  add column charge numeric,                        -- of every accepted event, at the price's charge scale; null for other prices
  add column posted_charge numeric;                 -- the part of it that line items stand for
alter table ledger.pending
  add column charge numeric;                        -- of the events that wait for the window

-- The first events of a target, by (event time, identity), while its allowance was open.
create table ledger.allowance_member (
  account_key    int not null,
  price_key      int not null,
  period_start   timestamptz not null,
  member         uuid not null,                     -- the event's identity
  namespace_key  int not null,
  time_us        bigint not null,
  value          numeric(38) not null,              -- at the meter's scale
  primary key (account_key, price_key, period_start, member)
);

grant select, insert, delete on ledger.allowance_member to lineitem_post;
grant update (charge, posted_charge) on ledger.accumulator to lineitem_post;
grant update (charge) on ledger.pending to lineitem_post;
call ledger.isolate_namespace('ledger.allowance_member');

-- Included units that an account did not use and that the next month gets.
set local role lineitem_owner;

create table ledger.carried_units (
  account_key    int not null,
  pricebook      text not null,
  pool           text not null,
  service_month  int not null,                      -- that gets them
  namespace_key  int not null,
  units          numeric(38) not null check (units >= 0),   -- at the meter's scale
  primary key (account_key, pricebook, pool, service_month)
);

grant select, insert on ledger.carried_units to lineitem_post;
grant update (units) on ledger.carried_units to lineitem_post;
call ledger.isolate_namespace('ledger.carried_units');

-- Exchange rates, by day and source; which invoices were converted.
set local role lineitem_owner;

-- One unit of base is worth rate units of quote. A correction is another row, of a later batch; the newest batch counts.
create table catalog.fx_rate (
  namespace_key  int not null references catalog.namespace,
  source         text not null,                     -- who says so: ecb, a bank, a contract
  base           text not null,
  quote          text not null,
  day            date not null,
  rate           numeric(38, 18) not null check (rate > 0),
  batch          bigint not null,                   -- of lane 0: the load that recorded it
  primary key (namespace_key, source, base, quote, day, batch),
  check (base <> quote)
);

-- True: one invoice over line items of every currency; its currency is what they were converted to.
alter table billing.invoice add column converted boolean not null default false;

grant select, insert on catalog.fx_rate to lineitem_post;

call ledger.make_append_only('catalog.fx_rate');
call ledger.isolate_namespace('catalog.fx_rate');

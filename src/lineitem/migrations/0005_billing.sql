-- Invoices: finalised once, numbered without gaps, never changed.
set local role lineitem_owner;

-- The counter of each run of numbers. Moved only by the transaction that writes the invoices, so that none is ever missing.
create table billing.series (
  namespace_key  int not null references catalog.namespace,
  series         text not null,
  last_number    bigint not null check (last_number > 0),
  primary key (namespace_key, series)
);

create table billing.invoice (
  number         text not null,                     -- series and serial as people write them
  namespace_key  int not null references catalog.namespace,
  series         text not null,
  serial         bigint not null,                   -- 1, 2, ... within the series, without gaps
  account_key    int not null references catalog.account,
  posting_month  int not null,
  currency       text not null,
  ordinal        int not null,                      -- 1, 2, ... among the invoices of one account, month and currency
  cut            text not null,                     -- canonical JSON {lane: batch}: the ledger as this invoice saw it
  document       text not null,                     -- canonical JSON, exactly as sent
  digest         bytea not null,                    -- SHA-256 of the document's UTF-8
  lane           smallint not null,                 -- the batch whose fact binds number and digest
  batch          bigint not null,
  primary key (namespace_key, number),
  unique (namespace_key, series, serial),
  unique (namespace_key, posting_month, account_key, currency, ordinal)
);

grant select, insert on all tables in schema billing to lineitem_post;
grant update (last_number) on billing.series to lineitem_post;

call ledger.make_append_only('billing.invoice');
call ledger.isolate_namespace('billing.invoice');

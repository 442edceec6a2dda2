-- Prepaid credit: what accounts were granted, what was taken back, and what has been drawn of it.
set local role lineitem_owner;

-- Money an account has paid already, or was given. Its line items name a price of its own, of the pricebook @grant.
create table ledger.credit_grant (
  namespace_key  int not null references catalog.namespace,
  grant_id       text not null,
  account_key    int not null references catalog.account,
  price_version_key int not null unique references catalog.price_version,
  currency       text not null,
  amount_nano    numeric(38) not null check (amount_nano > 0),
  priority       int not null,                      -- lower is drawn first
  effective_us   bigint not null,                   -- microseconds since the epoch
  expires_us     bigint,                            -- excluded; null: never
  prices         text not null,                     -- canonical JSON list of price ids; []: all
  reason         text not null,
  granted_by     text not null,
  batch          bigint not null,                   -- of lane 0, which recorded it
  primary key (namespace_key, grant_id),
  check (expires_us > effective_us)
);
create index on ledger.credit_grant (account_key);

-- From here on a grant gives no more than it had given.
create table ledger.credit_void (
  namespace_key  int not null,
  grant_id       text not null,
  kept_nano      numeric(38) not null check (kept_nano >= 0),
  reason         text not null,
  voided_by      text not null,
  batch          bigint not null,
  primary key (namespace_key, grant_id),
  foreign key (namespace_key, grant_id) references ledger.credit_grant
);

-- What an account owed in a service month when credit was last drawn for it, and how it was shared out.
create table ledger.credit_month (
  account_key    int not null,
  service_month  int not null,
  namespace_key  int not null,
  document       text not null,                     -- canonical JSON: ledger.credit_months.MonthCredit
  batch          bigint not null,                   -- of lane 0, which recorded it
  primary key (account_key, service_month)
);

-- What was drawn of each grant for each service month: minus the sum of its line items.
create table ledger.credit_draw (
  account_key    int not null,
  price_key      int not null,                      -- the grant's
  service_month  int not null,
  namespace_key  int not null,
  drawn_nano     numeric(38) not null check (drawn_nano >= 0),
  primary key (account_key, price_key, service_month)
);

grant select, insert on ledger.credit_grant, ledger.credit_void, ledger.credit_month, ledger.credit_draw to lineitem_post;
grant update (document, batch) on ledger.credit_month to lineitem_post;
grant update (drawn_nano) on ledger.credit_draw to lineitem_post;

call ledger.make_append_only('ledger.credit_grant');
call ledger.make_append_only('ledger.credit_void');
call ledger.isolate_namespace('ledger.credit_grant');
call ledger.isolate_namespace('ledger.credit_void');
call ledger.isolate_namespace('ledger.credit_month');
call ledger.isolate_namespace('ledger.credit_draw');

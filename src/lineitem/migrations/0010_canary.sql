-- Canaries: a pricebook version in force for chosen accounts only, what was done to it, and what the other version would have charged.
set local role lineitem_owner;

-- A start, a change of who is in it, a stop or an end, each under a revision of the namespace: it counts from there on.
create table catalog.canary_step (
  namespace_key  int not null references catalog.namespace,
  revision       bigint not null,
  canary         text not null,
  document       text not null,                     -- canonical JSON: catalog.canary.Change
  acted_by       text not null,
  acted_at       timestamptz not null,
  primary key (namespace_key, revision)
);

-- Accounts that a step reaches only later, because service periods with usage keep the arm they were rated in.
create table catalog.canary_hold (
  namespace_key  int not null,
  revision       bigint not null,
  account        text not null,
  service_month  int not null,                      -- core.period.Month.index: the step counts for the account from here on
  primary key (namespace_key, revision, account),
  foreign key (namespace_key, revision) references catalog.canary_step
);

-- What members were charged and what the other version would have charged, as each check found it.
create table ledger.canary_beside (
  namespace_key  int not null,
  lane           smallint not null,                 -- of the batch that holds the check's fact
  batch          bigint not null,
  account_key    int not null,
  service_month  int not null,
  price          text not null,
  currency       text not null,
  live_nano      numeric(38) not null,
  other_nano     numeric(38) not null,
  primary key (lane, batch, account_key, service_month, price, currency)
);
create index on ledger.canary_beside (account_key, service_month);

alter table catalog.draft drop constraint draft_what_check;
alter table catalog.draft add constraint draft_what_check check (what in ('catalog', 'retirement', 'canary'));

grant select, insert on catalog.canary_step, catalog.canary_hold, ledger.canary_beside to lineitem_post;

call ledger.make_append_only('catalog.canary_step');
call ledger.make_append_only('catalog.canary_hold');
call ledger.make_append_only('ledger.canary_beside');
call ledger.isolate_namespace('catalog.canary_step');
call ledger.isolate_namespace('catalog.canary_hold');
call ledger.isolate_namespace('ledger.canary_beside');

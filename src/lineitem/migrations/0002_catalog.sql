-- What usage means and costs. Published content is immutable; account settings change only by publishing.
set local role lineitem_owner;

create table catalog.namespace (
  namespace_key  int generated always as identity primary key,
  namespace      text not null unique,
  revision       bigint not null default 0          -- moves with every publish; batches check it
);

create table catalog.publication (
  namespace_key  int not null references catalog.namespace,
  revision       bigint not null,
  digest         text not null,                     -- SHA-256 of the document, hex
  document       text not null,                     -- canonical JSON of the whole catalog file
  published_at   timestamptz not null,
  primary key (namespace_key, revision)
);

create table catalog.pricebook_version (
  namespace_key   int not null references catalog.namespace,
  pricebook       text not null,
  version         int not null,
  effective_from  timestamptz not null,
  effective_until timestamptz,                      -- null: until the next version starts
  digest          text not null,
  document        text not null,
  revision        bigint not null,                  -- the publication that brought it
  primary key (namespace_key, pricebook, version),
  unique (namespace_key, pricebook, effective_from)
);

-- One row per distinct content of a price: versions that do not change a price share it, so its tiers go on.
create table catalog.price (
  price_key      int generated always as identity primary key,
  namespace_key  int not null references catalog.namespace,
  pricebook      text not null,
  price          text not null,
  digest         bytea not null,                    -- over everything that determines money, the meter included
  meter          text not null,
  unit           text not null,
  scale          int not null,
  currency       text not null,
  unique (namespace_key, pricebook, price, digest)
);

create table catalog.price_version (
  price_version_key int generated always as identity primary key,
  namespace_key     int not null references catalog.namespace,
  price_key         int not null references catalog.price,
  version           int not null,                   -- of the pricebook
  unique (price_key, version)
);

create table catalog.account (
  account_key    int generated always as identity primary key,
  namespace_key  int not null references catalog.namespace,
  account        text not null,
  name           text not null,
  pricebook      text,
  timezone       text not null,
  billing        text not null,
  tags           text not null,                     -- canonical JSON object
  unique (namespace_key, account)
);

create table catalog.tag_set (
  tag_set_key    int generated always as identity primary key,
  tags           text not null unique               -- canonical JSON object
);

grant select on all tables in schema catalog to lineitem_post;
grant insert on all tables in schema catalog to lineitem_post;
grant update (revision) on catalog.namespace to lineitem_post;
grant update (name, pricebook, timezone, billing, tags) on catalog.account to lineitem_post;
grant select on catalog.namespace, catalog.tag_set to lineitem_read;

call ledger.make_append_only('catalog.publication');
call ledger.make_append_only('catalog.pricebook_version');
call ledger.make_append_only('catalog.price');
call ledger.make_append_only('catalog.price_version');
call ledger.make_append_only('catalog.tag_set');
call ledger.isolate_namespace('catalog.publication');
call ledger.isolate_namespace('catalog.pricebook_version');
call ledger.isolate_namespace('catalog.price');
call ledger.isolate_namespace('catalog.price_version');
call ledger.isolate_namespace('catalog.account');

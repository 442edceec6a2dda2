-- When each version is in force, held apart by the database; ends set after publishing; drafts and what became of them.
set local role lineitem_owner;

-- An exclusion constraint over a number, a text and a range needs the extension btree_gist, unless the first two are written as
-- ranges of one value: ranges have a GiST operator class of their own on every server.
create type catalog.text_range as range (subtype = text, collation = "C");

-- The range that counts: an open end is the start of the next version, and it moves when that one is published or withdrawn.
-- Follows from pricebook_version and retirement; `lineitem verify` compares.
create table catalog.effective_range (
  namespace_key  int not null references catalog.namespace,
  pricebook      text not null,
  version        int not null,
  during         tstzrange not null,                -- empty: withdrawn before it started
  primary key (namespace_key, pricebook, version),
  foreign key (namespace_key, pricebook, version) references catalog.pricebook_version,
  -- Checked at the end of each statement: one statement moves the bounds of neighbours.
  constraint one_version_at_a_time exclude using gist (
    int4range(namespace_key, namespace_key, '[]') with &&,
    catalog.text_range(pricebook, pricebook, '[]') with &&,
    during with &&
  ) deferrable initially immediate
);

insert into catalog.effective_range (namespace_key, pricebook, version, during)
select namespace_key, pricebook, version, tstzrange(effective_from, least(effective_until,
  lead(effective_from) over (partition by namespace_key, pricebook order by effective_from)))
from catalog.pricebook_version;

-- A withdrawn version gives its start free for the one that replaces it; the constraint above is the stronger one.
alter table catalog.pricebook_version drop constraint pricebook_version_namespace_key_pricebook_effective_from_key;

-- An end set after publishing: the version's content stays what it was.
create table catalog.retirement (
  namespace_key  int not null references catalog.namespace,
  revision       bigint not null,                   -- of the namespace; counts from there on
  pricebook      text not null,
  version        int not null,
  ends_at        timestamptz not null,              -- excluded
  retired_by     text not null,
  retired_at     timestamptz not null,
  primary key (namespace_key, revision),
  foreign key (namespace_key, pricebook, version) references catalog.pricebook_version
);

create table catalog.draft (
  namespace_key  int not null references catalog.namespace,
  draft          int not null,                      -- numbered from 1 in each namespace
  what           text not null check (what in ('catalog', 'retirement')),
  base_revision  bigint not null,                   -- in force when it was made
  digest         text not null,                     -- SHA-256 of the document, hex
  document       text not null,                     -- canonical JSON
  primary key (namespace_key, draft)
);

-- Everything done to a draft, its making (step 0) included; what state it is in follows from these.
create table catalog.draft_step (
  namespace_key  int not null references catalog.namespace,
  draft          int not null,
  step           int not null,
  act            text not null check (act in ('draft', 'review', 'approve', 'publish')),
  actor          text not null,
  note           text not null,
  acted_at       timestamptz not null,
  primary key (namespace_key, draft, step),
  foreign key (namespace_key, draft) references catalog.draft
);

grant select, insert on catalog.effective_range, catalog.retirement, catalog.draft, catalog.draft_step to lineitem_post;
grant update (during) on catalog.effective_range to lineitem_post;

call ledger.make_append_only('catalog.retirement');
call ledger.make_append_only('catalog.draft');
call ledger.make_append_only('catalog.draft_step');
call ledger.isolate_namespace('catalog.effective_range');
call ledger.isolate_namespace('catalog.retirement');
call ledger.isolate_namespace('catalog.draft');
call ledger.isolate_namespace('catalog.draft_step');

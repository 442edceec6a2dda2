-- Schemas of the events' data: what each says, versions by subject, and what a subject asks of the next one.
create schema schemas authorization lineitem_owner;
set local role lineitem_owner;

grant usage on schema schemas to lineitem_post, lineitem_read;

-- One row for each schema of a namespace, whatever subjects have it: ids are what messages carry.
create table schemas.schema (
  namespace_key  int not null references catalog.namespace,
  id             int not null,                      -- 1, 2, 3, ... of the namespace
  format         text not null,                     -- JSON, AVRO, PROTOBUF
  document       text not null,                     -- as it was registered
  refs           text not null,                     -- [[name, subject, version], ...], canonical JSON
  digest         bytea not null,                    -- SHA-256 over format, canonical form and references: equal ones have one id
  batch          bigint not null,                   -- of lane 0: who registered it stands there
  primary key (namespace_key, id),
  unique (namespace_key, digest)
);

create table schemas.version (
  namespace_key  int not null references catalog.namespace,
  subject        text not null,
  version        int not null,                      -- 1, 2, 3, ... of the subject
  id             int not null,
  batch          bigint not null,
  primary key (namespace_key, subject, version),
  unique (namespace_key, subject, id),
  foreign key (namespace_key, id) references schemas.schema
);

-- What is asked of a subject; '' stands for all that ask nothing of their own. The newest batch's word counts.
create table schemas.setting (
  namespace_key  int not null references catalog.namespace,
  subject        text not null,
  name           text not null check (name in ('compatibility', 'enforce')),
  value          text,                              -- null: nothing of its own any more
  batch          bigint not null,
  primary key (namespace_key, subject, name, batch)
);

grant select, insert on schemas.schema, schemas.version, schemas.setting to lineitem_post;

call ledger.make_append_only('schemas.schema');
call ledger.make_append_only('schemas.version');
call ledger.make_append_only('schemas.setting');
call ledger.isolate_namespace('schemas.schema');
call ledger.isolate_namespace('schemas.version');
call ledger.isolate_namespace('schemas.setting');

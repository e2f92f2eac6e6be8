import type { Plan, ResultColumn, StateColumn, TablePlan } from '@anabranch/compute';
import type { WindowTable } from '@anabranch/definition';
import pg from 'pg';
import { errorCode, PostgresError } from './errors.ts';
import { transaction } from './transaction.ts';

const quote = (name: string): string => pg.escapeIdentifier(name);

/** Name of the table that holds the state of a user's table. */
export function stateTable(table: string): string {
  return `anabranch.${quote(`state_${table}`)}`;
}

/** Name of a connection's temporary table that takes the rows to merge into a user's table. */
export function stagingTable(table: string): string {
  return `pg_temp.${quote(`stage_${table}`)}`;
}

export function columnOf(plan: TablePlan, role: StateColumn['role']): string {
  const column = plan.columns.find((candidate) => candidate.role === role);
  if (column === undefined) {
    throw new Error(`Table ${plan.table.name} has no column for ${role}.`);
  }
  return quote(column.name);
}

export function columnsOf(plan: TablePlan, ...roles: StateColumn['role'][]): string[] {
  return plan.columns.filter(({ role }) => roles.includes(role)).map(({ name }) => quote(name));
}

/** What identifies a row of the state table. */
export function keyOf(plan: TablePlan): string[] {
  switch (plan.table.kind) {
    case 'append':
      return columnsOf(plan, 'partition', 'offset');
    case 'upsert':
      return columnsOf(plan, 'key');
    case 'window':
      return columnsOf(plan, 'window_start', 'key');
  }
}

/** When a window's time is over: what is compared with the watermark, in SQL. */
export function completeAt(plan: WindowPlan, alias: string): string {
  const { size, grace } = plan.table.window;
  return `${alias}.${columnOf(plan, 'window_start')} + interval '${size + grace} milliseconds'`;
}

export type WindowPlan = TablePlan & { readonly table: WindowTable };

export function isWindow(plan: TablePlan): plan is WindowPlan {
  return plan.table.kind === 'window';
}

/** Text is compared byte by byte, as DuckDB does, and faster than by any locale. */
const typeOf = ({ postgresType }: { postgresType: string }): string =>
  postgresType === 'text' ? 'text COLLATE "C"' : postgresType;

function createState(plan: TablePlan): string {
  const { table } = plan;
  const columns = plan.columns.map((column) => `${quote(column.name)} ${typeOf(column)}`);
  const state = stateTable(table.name);
  if (table.kind === 'append') {
    // No index: the frontier already lets each record in once, and a primary key costs four times
    // the COPY. BRIN finds a record by its coordinates and is next to free.
    return `CREATE TABLE ${state} (${columns.join(', ')}, _updated_at timestamptz NOT NULL DEFAULT now());
      CREATE INDEX ON ${state} USING brin (${columnsOf(plan, 'partition', 'offset').join(', ')});`;
  }
  const corrected = table.kind === 'window' ? '_corrected boolean NOT NULL,' : '';
  // fillfactor: an update that finds room on its page touches no index.
  return `CREATE TABLE ${state} (${columns.join(', ')},
      _revision bigint NOT NULL, ${corrected} _updated_at timestamptz NOT NULL)
      WITH (fillfactor = 70);
    CREATE UNIQUE INDEX ON ${state} (${keyOf(plan).join(', ')}) NULLS NOT DISTINCT;`;
}

interface ViewColumn {
  readonly name: string;
  readonly sql: string;
  readonly comment: string;
}

function statusColumn(plan: TablePlan): ViewColumn {
  if (isWindow(plan)) {
    return {
      name: 'status',
      sql: `CASE WHEN ${completeAt(plan, 's')} > coalesce(w.final_watermark, '-infinity') THEN 'provisional'
                 WHEN l.times && tstzrange(s.${columnOf(plan, 'window_start')}, s.${columnOf(plan, 'window_start')} + interval '${plan.table.window.size} milliseconds') THEN 'incomplete'
                 WHEN s._corrected THEN 'corrected' ELSE 'final' END`,
      comment:
        'provisional; final, once the end of the window plus grace is behind the watermarks of both branches on all partitions; corrected, when a late record changed it after that; incomplete instead of these two, when records that it may have had were lost and the loss was accepted (anabranch.losses).',
    };
  }
  return plan.table.kind === 'append'
    ? {
        name: 'status',
        sql: `'final'::text`,
        comment: 'Always final: the row of a record never changes.',
      }
    : {
        name: 'status',
        sql: `'provisional'::text`,
        comment:
          'Always provisional: a newer record with the same key may replace the row at any time.',
      };
}

/** The columns of a user's view: what the definition says, then what Anabranch says of the row. */
export function viewColumns(plan: TablePlan): ViewColumn[] {
  const { table } = plan;
  const own = plan.results.map(({ name, sql, comment }: ResultColumn) => ({ name, sql, comment }));
  const records = [
    {
      name: 'stream_records',
      sql: `s.${columnOf(plan, 'stream_records')}`,
      comment: 'Records that came over the stream branch.',
    },
    {
      name: 'batch_records',
      sql: `s.${columnOf(plan, 'batch_records')}`,
      comment: 'Records that came over the batch branch.',
    },
    { name: 'updated_at', sql: 's._updated_at', comment: 'When the row last changed.' },
  ];
  const revision = {
    name: 'revision',
    sql: table.kind === 'append' ? '1::bigint' : 's._revision',
    comment: 'How often something was merged into the row; it only rises.',
  };
  switch (table.kind) {
    case 'append':
      return [
        {
          name: 'source_partition',
          sql: `s.${columnOf(plan, 'partition')}`,
          comment: 'Partition of the record.',
        },
        {
          name: 'source_offset',
          sql: `s.${columnOf(plan, 'offset')}`,
          comment: 'Offset of the record.',
        },
        ...own,
        statusColumn(plan),
        revision,
        ...records,
      ];
    case 'upsert':
      return [...own, statusColumn(plan), revision, ...records];
    case 'window': {
      const start = `s.${columnOf(plan, 'window_start')}`;
      return [
        { name: 'window_start', sql: start, comment: 'Begin of the window, inclusive.' },
        {
          name: 'window_end',
          sql: `${start} + interval '${table.window.size} milliseconds'`,
          comment: 'End of the window, exclusive.',
        },
        ...own,
        statusColumn(plan),
        revision,
        ...records,
      ];
    }
  }
}

function createView(
  plan: TablePlan,
  schema: string,
  create: 'CREATE' | 'CREATE OR REPLACE',
): string {
  const { table } = plan;
  const view = `${quote(schema)}.${quote(table.name)}`;
  const columns = viewColumns(plan);
  // Scalar subqueries would be planned per row; joins with the one row of the source are not.
  const source = pg.escapeLiteral(table.source);
  const watermark = isWindow(plan)
    ? `LEFT JOIN anabranch.sources w ON w.source = ${source}
       CROSS JOIN (SELECT range_agg(tstzrange(event_time_from, event_time_to, '[]')) AS times
         FROM anabranch.losses WHERE source = ${source} AND branch <> 'dead') l`
    : '';
  const comments = columns.map(
    ({ name, comment }) =>
      `COMMENT ON COLUMN ${view}.${quote(name)} IS ${pg.escapeLiteral(comment)};`,
  );
  return `${create} VIEW ${view} AS SELECT ${columns.map(({ name, sql }) => `${sql} AS ${quote(name)}`).join(', ')}
      FROM ${stateTable(table.name)} s ${watermark};
    COMMENT ON VIEW ${view} IS ${pg.escapeLiteral(table.description ?? `Made by Anabranch from source ${table.source}.`)};
    ${comments.join('\n')}`;
}

/**
 * Creates a connection's temporary tables for the merges of these tables: once per connection, since
 * they empty themselves at commit, and outside of any transaction, since a rollback would take them away.
 */
export async function createStaging(
  client: pg.ClientBase,
  plans: Iterable<TablePlan>,
): Promise<void> {
  const statements = [...plans]
    .filter(({ table }) => table.kind !== 'append')
    .map((plan) => {
      const columns = plan.columns.map((column) => `${quote(column.name)} ${typeOf(column)}`);
      return `CREATE TEMPORARY TABLE ${quote(`stage_${plan.table.name}`)} (${columns.join(', ')}) ON COMMIT DELETE ROWS;`;
    });
  if (statements.length > 0) {
    await client.query(statements.join('\n')).catch((cause: unknown) => {
      throw errorCode(cause) === '42501'
        ? new PostgresError(
            'NOT_PERMITTED',
            `Postgres refuses temporary tables (${(cause as Error).message}): GRANT TEMPORARY ON DATABASE to the role.`,
            { cause },
          )
        : cause;
    });
  }
}

/** Any constant but that of the migrations. */
const advisoryLock = 4_242_002;

/**
 * Creates what the definition's tables need and Postgres doesn't have yet: state tables, views with
 * comments, and the readers' rights on them.
 * @param readerRole a role that may read the views and the ledger; null: grant nothing
 * @throws PostgresError `TABLE_CHANGED` when a table was created from another definition,
 *   `NAME_TAKEN` when the user's schema already has something under a table's name, `NOT_PERMITTED`
 */
export async function createTables(
  pool: pg.Pool,
  plan: Plan,
  readerRole: string | null,
): Promise<void> {
  const { schema } = plan.definition;
  try {
    await transaction(pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock($1)', [advisoryLock]);
      await createSchema(client, schema);
      await registerSources(client, plan);
      const { rows } = await client.query<{ table_name: string; hash: string }>(
        'SELECT table_name, hash FROM anabranch.tables',
      );
      const known = new Map(rows.map(({ table_name, hash }) => [table_name, hash]));
      for (const tablePlan of plan.tables.values()) {
        await createTable(client, tablePlan, schema, known.get(tablePlan.table.name));
      }
      if (readerRole !== null) {
        await grantReaders(client, readerRole, plan);
      }
    });
  } catch (cause) {
    throw errorCode(cause) === '42501'
      ? new PostgresError(
          'NOT_PERMITTED',
          `Postgres refuses to set up the tables (${(cause as Error).message}): let its owner run \`node main.mjs migrate\` of fusion, or grant this role CREATE on the database and on schema ${schema}, and CREATEROLE unless the readers' role is there.`,
          { cause },
        )
      : cause;
  }
}

async function registerSources(client: pg.PoolClient, { definition }: Plan): Promise<void> {
  for (const { name, topic, hash, split } of definition.sources) {
    await client.query(
      `INSERT INTO anabranch.sources (source, topic, partitions, definition) VALUES ($1, $2, 0, $3)
       ON CONFLICT (source) DO UPDATE SET topic = excluded.topic, definition = excluded.definition, updated_at = now()`,
      [name, topic, hash],
    );
    await client.query(
      `INSERT INTO anabranch.split_rules (source, definition, rules) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
      [name, hash, split.map((rule) => rule.name)],
    );
  }
}

/** @param known hash of the definition that the table was created from; undefined: there is none yet */
async function createTable(
  client: pg.PoolClient,
  plan: TablePlan,
  schema: string,
  known: string | undefined,
): Promise<void> {
  const { table } = plan;
  const view = known === undefined ? null : await readView(client, schema, table.name);
  if (known === undefined) {
    await client.query(createState(plan));
    await client.query(
      'INSERT INTO anabranch.tables (table_name, source, kind, hash) VALUES ($1, $2, $3, $4)',
      [table.name, table.source, table.kind, table.hash],
    );
  } else if (known !== table.hash) {
    throw new PostgresError(
      'TABLE_CHANGED',
      `Table ${table.name} was filled by another definition, and its rows can't be told apart: give the changed one a new name (${table.name}_2), or drop view and state of the old one (see docs/operations.md).`,
    );
  } else if (view !== null && (!isWindow(plan) || view.includes('losses'))) {
    // Views of windows from before there were losses don't know `incomplete`.
    return;
  }
  try {
    await client.query(createView(plan, schema, view === null ? 'CREATE' : 'CREATE OR REPLACE'));
  } catch (cause) {
    // 42710: a type, as every table and view brings one of its name.
    throw ['42P07', '42710'].includes(errorCode(cause) ?? '')
      ? new PostgresError(
          'NAME_TAKEN',
          `Schema ${schema} already has something called ${table.name}: rename the table in the definition, or give \`schema:\` another name.`,
          { cause },
        )
      : cause;
  }
}

/** @returns its SQL; null when somebody dropped it, or the definition names another schema since */
async function readView(
  client: pg.PoolClient,
  schema: string,
  name: string,
): Promise<string | null> {
  const { rows } = await client.query<{ definition: string }>(
    'SELECT definition FROM pg_views WHERE schemaname = $1 AND viewname = $2',
    [schema, name],
  );
  return rows[0]?.definition ?? null;
}

/** `IF NOT EXISTS` alone asks for the right to create it also when it exists. */
export async function createSchema(client: pg.PoolClient, schema: string): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema]);
  if (rowCount === 0) {
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${quote(schema)}`);
  }
}

/** What readers may read beside the views of the tables. */
const ledgerNames = [
  'sources',
  'split_rules',
  'tables',
  'frontier',
  'positions',
  'ledger',
  'table_counts',
  'dead_letters',
  'conflicts',
  'corrections',
  'runs',
  'run_ranges',
  'stage_costs',
  'prediction_errors',
  'table_costs',
  'cost_models',
  'decisions',
  'cost_model',
  'cost_error',
  'capacity',
  'branch_costs',
  'losses',
  'ledger_faults',
  'split',
  'balance',
];

async function grantReaders(client: pg.PoolClient, role: string, plan: Plan): Promise<void> {
  const reader = quote(role);
  const { schema } = plan.definition;
  await client.query(`DO $$ BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${pg.escapeLiteral(role)}) THEN
        CREATE ROLE ${reader} NOLOGIN;
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`);
  // Only what is missing: fusion's role needs no right to grant when another one has set all up.
  const { rows: schemas } = await client.query<{ name: string }>(
    `SELECT nspname AS name FROM pg_namespace
     WHERE nspname IN ($1, 'anabranch') AND NOT has_schema_privilege($2, oid, 'USAGE')`,
    [schema, role],
  );
  for (const { name } of schemas) {
    await client.query(`GRANT USAGE ON SCHEMA ${quote(name)} TO ${reader}`);
  }
  // Views run with their owner's rights, so the state tables themselves stay closed. They are looked
  // for in the catalogue, since their names mean nothing to a role that may not look into the schema.
  const { rows: closed } = await client.query<{ name: string }>(
    `SELECT format('%I.%I', nspname, relname) AS name
     FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
     WHERE (nspname = 'anabranch' AND relname = ANY ($1) OR nspname = $2 AND relname = ANY ($3))
       AND relkind IN ('r', 'p', 'v') AND NOT has_table_privilege($4, pg_class.oid, 'SELECT')`,
    [ledgerNames, schema, [...plan.tables.keys()], role],
  );
  if (closed.length > 0) {
    await client.query(`GRANT SELECT ON ${closed.map(({ name }) => name).join(', ')} TO ${reader}`);
  }
}

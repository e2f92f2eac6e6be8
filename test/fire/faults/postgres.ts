import { setTimeout as pause } from 'node:timers/promises';
import type { ServiceProcess } from '@anabranch/servers';
import type { Dice } from '../../random.ts';
import type { Fault, Field } from '../field.ts';

/**
 * A transaction with so many statements has merged rows: others, of dead letters, positions or telemetry
 * alone, would be the same if they took place twice.
 */
const mergeStatements = 10;

/** A minute and more is what an operator's mistake or a full disk takes. */
const stallMilliseconds = 60_000;

/** SQLSTATEs that a fusion step meets where another transaction, a limit or a full disk stops it. */
const raised = {
  '40001': 'a serialization failure',
  '40P01': 'a deadlock',
  '53100': 'a full disk',
  '53200': 'no memory',
  '55P03': 'a lock timeout',
  '57014': 'a statement timeout',
} as const;

/** Messages of its topics that a service says it has not taken. */
async function lagOf(service: ServiceProcess): Promise<number> {
  const lines = (await service.metrics()).matchAll(/^anabranch_lag_records\{[^}]*\} (\S+)$/gm);
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0);
}

/**
 * Makes the next statements that write to one of fusion's tables fail. A sequence counts them, since
 * it is not rolled back with them.
 */
async function raise({ chain, note }: Field, dice: Dice): Promise<void> {
  const code = dice.of(Object.keys(raised) as (keyof typeof raised)[]);
  const table = dice.of([
    'anabranch.frontier',
    'anabranch.positions',
    'anabranch.table_counts',
    'anabranch.state_per_minute',
    'anabranch.state_latest_payment',
    'anabranch.state_events',
    'anabranch.dead_letters',
  ]);
  const times = dice.between(1, 7);
  note(`${raised[code]} (${code}), ${times} times, at ${table}`);
  const schema = `fire_${dice.below(2 ** 31)}`;
  const install = `
    CREATE SCHEMA IF NOT EXISTS ${schema};
    CREATE SEQUENCE IF NOT EXISTS ${schema}.strikes;
    CREATE OR REPLACE FUNCTION ${schema}.strike() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF nextval('${schema}.strikes') <= ${times} THEN
        RAISE EXCEPTION 'the test says so' USING ERRCODE = '${code}';
      END IF;
      RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER ${schema} AFTER INSERT OR UPDATE ON ${table}
      FOR EACH STATEMENT EXECUTE FUNCTION ${schema}.strike()`;
  await again(() => chain.query(install), chain);
  await chain.eventually('the errors to be raised', async () => {
    const [row] = await chain
      .query<{ strikes: string }>(`SELECT last_value::text AS strikes FROM ${schema}.strikes`)
      .catch(() => []);
    return Number(row?.strikes) > times ? true : undefined;
  });
  await again(() => chain.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`), chain);
}

/** Another fault may have Postgres away at this moment. */
async function again(work: () => Promise<unknown>, chain: Field['chain']): Promise<void> {
  await chain.eventually('Postgres to take a statement', () =>
    work().then(
      () => true,
      () => undefined,
    ),
  );
}

/** Locks two rows in the order opposite to fusion's, until Postgres ends one of the two transactions. */
async function deadlock({ chain, note }: Field): Promise<void> {
  note('a session locks rows in the opposite order');
  for (let attempt = 0; attempt < 8; attempt++) {
    const client = await chain.pool.connect();
    const ignore = (): void => undefined;
    client.on('error', ignore);
    let broken: Error | undefined;
    try {
      await client.query('BEGIN');
      // Fusion takes rows in the order of the key, and nulls last.
      for (const order of ['DESC', 'ASC']) {
        await client.query(
          `SELECT FROM anabranch.state_latest_by_customer ORDER BY customer ${order}, kind ${order} LIMIT 1 FOR UPDATE`,
        );
        await client.query('SELECT pg_sleep(0.3)');
      }
      await client.query('ROLLBACK');
    } catch (error) {
      broken = error as Error;
    } finally {
      client.off('error', ignore);
      client.release(broken);
    }
  }
}

export const postgres = {
  'postgres-killed': {
    family: 'postgres',
    async inject({ postgres: server, note }, dice) {
      note('SIGKILL: Postgres');
      await server.kill();
      await pause(dice.between(0, 2000));
      await server.start();
      note('Postgres answers');
    },
  },

  'postgres-restarted': {
    family: 'postgres',
    async inject({ postgres: server, note }) {
      note('SIGINT: Postgres');
      await server.restart();
      note('Postgres answers');
    },
  },

  'postgres-paused': {
    family: 'postgres',
    async inject({ postgres: server, note }, dice) {
      const milliseconds = dice.between(2000, 14_000);
      note(`SIGSTOP: Postgres, for ${milliseconds} ms`);
      server.pause();
      await pause(milliseconds);
      server.resume();
    },
  },

  'postgres-stalled': {
    family: 'postgres',
    async inject({ postgresProxy, fleet, load, note }) {
      note(`Postgres stalls for ${stallMilliseconds} ms, under full load`);
      const before = await lagOf(fleet.get('fusion'));
      load.isFlooding = true;
      postgresProxy.proxy.freeze();
      await pause(stallMilliseconds);
      const lag = await lagOf(fleet.get('fusion'));
      postgresProxy.proxy.thaw();
      load.isFlooding = false;
      note(`fusion reported a lag of ${lag} messages, and of ${before} in front of it`);
      // Each source has some partials a second of each branch and partition.
      if (!(lag > before + stallMilliseconds / 1000)) {
        throw new Error(`Postgres stood still, and fusion reports a lag of ${lag} messages.`);
      }
    },
  },

  'every-statement': {
    family: 'postgres',
    async inject({ postgresProxy, note }) {
      for (let statement = 1; ; statement++) {
        const sprung = await postgresProxy.ambush({ statement, how: 'terminate', patience: 40 });
        if (sprung.statement < statement) {
          note(`pg_terminate_backend at each of the ${statement - 1} statements of a step`);
          return;
        }
      }
    },
  },

  'session-terminated': {
    family: 'postgres',
    async inject({ postgresProxy, note }, dice) {
      const how = dice.of(['terminate', 'cut', 'cut-after'] as const);
      const wanted = dice.between(1, 24);
      note(`${how} at statement ${wanted} of a transaction`);
      const { statement, isCommit } = await postgresProxy.ambush({ statement: wanted, how });
      note(`${how} at statement ${statement}${isCommit ? ', the COMMIT' : ''}`);
    },
  },

  'commit-lost': {
    family: 'postgres',
    async inject({ postgresProxy, note }, dice) {
      const how = dice.of(['terminate', 'cut'] as const);
      await postgresProxy.ambush({ statement: 'commit', how, least: mergeStatements });
      note(`${how} in front of a COMMIT`);
    },
  },

  'commit-unknown': {
    family: 'postgres',
    async inject({ postgresProxy, note }) {
      await postgresProxy.ambush({ statement: 'commit', how: 'cut-after', least: mergeStatements });
      note('a COMMIT takes place, and the client is not told');
    },
  },

  'statement-fails': { family: 'postgres', inject: raise },

  deadlock: { family: 'postgres', inject: deadlock },

  'disk-full': {
    family: 'postgres',
    async inject({ chain, fleet, tablespaceDisk, note }) {
      if (tablespaceDisk === null) {
        note('the disk of Postgres can not be filled: this needs root');
        return;
      }
      const move = (to: string): Promise<void> =>
        again(() => chain.query(`ALTER TABLE anabranch.state_events SET TABLESPACE ${to}`), chain);
      await move('small');
      tablespaceDisk.fill();
      note('the disk of Postgres is full');
      await Promise.race([
        fleet.logged('fusion', (line) => JSON.stringify(line).includes('could not extend file')),
        pause(15_000),
      ]);
      tablespaceDisk.free();
      note('the disk of Postgres has room');
      await move('pg_default');
    },
  },

  'statement-cancelled': {
    family: 'postgres',
    async inject({ chain, note }, dice) {
      const times = dice.between(1, 5);
      for (let time = 0; time < times; time++) {
        await chain.eventually('a statement to cancel', async () => {
          const rows = await chain
            .query(
              `SELECT pg_cancel_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name LIKE 'anabranch.fusion.%' AND state = 'active' LIMIT 1`,
            )
            .catch(() => []);
          return rows.length > 0 ? true : undefined;
        });
      }
      note(`pg_cancel_backend, ${times} times`);
    },
  },
} satisfies Record<string, Fault>;

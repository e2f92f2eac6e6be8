import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { type Chain, openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { RecordGenerator } from './records.ts';

const partitions = 3;

/** Statements beside the chain's database, which nobody may be connected to. */
async function beside(chain: Chain, ...statements: string[]): Promise<void> {
  const url = new URL(chain.databaseUrl);
  url.pathname = '/postgres';
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  try {
    await client.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1',
      [nameOf(chain)],
    );
    await chain.eventually('the connections to be gone', async () => {
      const { rowCount } = await client.query('SELECT FROM pg_stat_activity WHERE datname = $1', [
        nameOf(chain),
      ]);
      return rowCount === 0 && chain.pool.totalCount === 0 ? true : undefined;
    });
    for (const statement of statements) {
      await client.query(statement);
    }
  } finally {
    await client.end();
  }
}

const nameOf = (chain: Chain): string => new URL(chain.databaseUrl).pathname.slice(1);

test('a Postgres that is restored to an earlier state, or emptied, is filled from where it then says it is', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions });
  const { fusion } = chain.startAll();
  const generator = new RecordGenerator(31, partitions, 200);
  await chain.produce(generator.take(3000));
  await chain.settled();
  await chain.stop(fusion);
  const backedUp = await chain.frontiers();
  const backup = `${nameOf(chain)}_backup`;
  // Templates are copied file by file, as a backup of a stopped server is.
  await beside(chain, `CREATE DATABASE ${backup} TEMPLATE ${nameOf(chain)}`);
  onTestFinished(() => beside(chain, `DROP DATABASE ${backup}`));

  const later = chain.start('fusion');
  await chain.produce(generator.take(3000));
  await chain.produceAborted(generator.take(30), generator.take(30));
  await chain.settled();
  await chain.stop(later);
  // The other services know nothing of it and go on.
  await chain.produce(generator.take(500));
  await beside(
    chain,
    `DROP DATABASE ${nameOf(chain)}`,
    `CREATE DATABASE ${nameOf(chain)} TEMPLATE ${backup}`,
  );
  expect(await chain.frontiers()).toEqual(backedUp);

  // Under another name: what the former instance had claimed is no matter any more.
  const restored = chain.start('fusion', 'b');
  await chain.produce(generator.take(500));
  await chain.produce(generator.closing());
  await chain.settled();
  await expectEvents(chain);

  await chain.stop(restored);
  await beside(chain, `DROP DATABASE ${nameOf(chain)}`, `CREATE DATABASE ${nameOf(chain)}`);
  chain.start('fusion');
  await chain.settled();
  await expectEvents(chain);
});

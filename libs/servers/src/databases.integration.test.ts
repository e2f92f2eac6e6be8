import pg from 'pg';
import { expect, inject, it } from 'vitest';
import { createDatabase, dropDatabase } from './databases.ts';

it('gives every test a database of its own, and drops it though it is in use', async () => {
  const [one, two] = await Promise.all([
    createDatabase(inject('databaseUrl'), 'mine'),
    createDatabase(inject('databaseUrl'), 'mine'),
  ]);
  expect(one).not.toBe(two);
  const client = new pg.Client({ connectionString: one });
  const ended = new Promise((resolve) => client.on('error', resolve));
  await client.connect();
  await client.query('CREATE TABLE kept ()');
  await dropDatabase(one);
  await expect(ended).resolves.toMatchObject({ code: '57P01' });

  const refused = new pg.Client({ connectionString: one });
  await expect(refused.connect()).rejects.toMatchObject({ code: '3D000' });
  await dropDatabase(two);
});

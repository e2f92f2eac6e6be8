import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, styleText } from 'node:util';
import { loadDefinition } from '@anabranch/definition';
import { connect, type Kafka, type PlainMessage } from '@anabranch/kafka';
import { serviceNames, ServiceProcess, type Servers, startServers } from '@anabranch/servers';
import pg from 'pg';
import { buildServices } from './build-services.ts';
import { partStragglers, readMessages, sendAll, sendLive } from './quick-start/feed.ts';
import { formatCount, Screen } from './quick-start/screen.ts';
import { type Sighting, Watch } from './quick-start/watch.ts';

const usage = `npm start                 runs the quick start and keeps running until Ctrl-C
npm start -- --once       ends by itself; exit code 0 only if the ledger's balance holds
npm start -- --fresh      starts over: throws away what earlier runs left in .anabranch
npm start -- --help       this text

KAFKA_BROKERS and DATABASE_URL name servers of yours to use instead of local ones.`;

const partitions = 3;
const liveSeconds = 12;

const root = fileURLToPath(new URL('../', import.meta.url));
const example = new URL('../examples/quick-start/', import.meta.url);
const state = path.join(root, '.anabranch');

const options = readOptions();
const screen = new Screen(process.stdout);
const stopping = new AbortController();
const services: ServiceProcess[] = [];
let servers: Servers | undefined;
let kafka: Kafka | undefined;
let pool: pg.Pool | undefined;
let hint: string | undefined;

process.on('SIGINT', () => {
  stopping.abort();
});
process.on('SIGTERM', () => {
  stopping.abort();
});

let exitCode = 0;
try {
  exitCode = await run();
} catch (error) {
  if (!stopping.signal.aborted) {
    screen.failed(error instanceof Error ? error.message : String(error));
    exitCode = 1;
  }
}
await stop();
process.exit(exitCode);

function readOptions(): { once: boolean; fresh: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        fresh: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(64);
  }
}

async function run(): Promise<number> {
  screen.title('Anabranch: batch and stream, fused');
  if (options.fresh) {
    rmSync(path.join(state, 'logs'), { recursive: true, force: true });
  }
  await timed('bundling the services', 'the four services are bundled', () => {
    buildServices();
    return Promise.resolve();
  });
  const definitionFile = fileURLToPath(new URL('anabranch.yaml', example));
  const [source] = loadDefinition(definitionFile).sources;
  if (source === undefined) {
    throw new Error(`${definitionFile} has no source.`);
  }
  const { topic } = source;

  await timed('starting Kafka and Postgres', 'Kafka and Postgres are ready', async () => {
    servers = await startServers({
      directory: state,
      fresh: options.fresh,
      brokers: process.env['KAFKA_BROKERS'],
      databaseUrl: process.env['DATABASE_URL'],
      onProgress: (message) => {
        screen.progress(message);
        if (message.startsWith('Downloading')) {
          screen.note(message);
        }
      },
    });
  });
  const { brokers, databaseUrl } = servers as unknown as Servers;
  // Where npm run produce finds it.
  mkdirSync(state, { recursive: true });
  writeFileSync(path.join(state, 'brokers'), brokers);
  screen.note(`Kafka ${brokers} · Postgres ${databaseUrl.replace(/:[^:@/]*@/, ':***@')}`);
  if (!process.env['KAFKA_BROKERS'] || !process.env['DATABASE_URL']) {
    screen.note('their data are kept in .anabranch; npm start -- --fresh starts over');
  }

  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  kafka = await connect(
    { brokers: brokers.split(','), clientId: 'quick-start', logger: quiet },
    stopping.signal,
  );
  if ((await kafka.admin.describeTopic(topic)) === null) {
    await kafka.admin.ensureTopics([{ name: topic, partitions }]);
  }
  await timed('starting the services', 'four processes run', () =>
    startServices(brokers, databaseUrl, definitionFile),
  );
  screen.note(
    `${serviceNames.join(', ')}; logs in ${path.relative(process.cwd(), path.join(state, 'logs')) || '.'}`,
  );

  pool = new pg.Pool({ connectionString: databaseUrl, max: 2 });
  pool.on('error', () => undefined);
  const watch = new Watch(pool, kafka, topic);
  const late = await feed(kafka, topic, watch);
  await settle(watch);
  if (late.length > 0) {
    await sendLate(kafka, topic, late);
    await settle(watch);
  }
  await show(watch);
  const isBalanced = await balance(watch);
  tellHow(databaseUrl, topic);
  if (options.once) {
    return isBalanced ? 0 : 1;
  }
  await keepRunning(watch);
  return 0;
}

async function timed(doing: string, done: string, work: () => Promise<void>): Promise<void> {
  const begun = performance.now();
  screen.progress(doing);
  await work();
  stopping.signal.throwIfAborted();
  screen.done(
    `${done} ${styleText('dim', `${((performance.now() - begun) / 1000).toFixed(1)} s`)}`,
  );
}

async function startServices(
  brokers: string,
  databaseUrl: string,
  definition: string,
): Promise<void> {
  for (const service of serviceNames) {
    services.push(
      new ServiceProcess({
        service,
        instance: 'quick-start',
        directory: path.join(state, 'logs'),
        brokers,
        databaseUrl,
        definition,
        onLog: ({ level, message }) => {
          if (level === 'fatal') {
            hint = `${service}: ${message}`;
          }
        },
      }),
    );
  }
  for (const service of services) {
    while (!(await service.readiness()).ok) {
      stopping.signal.throwIfAborted();
      screen.progress(`starting the services: waiting for ${service.service}`);
      await pause(100, undefined, { signal: stopping.signal });
    }
  }
}

/** @returns events that are to come late, when all windows are final */
async function feed(client: Kafka, topic: string, watch: Watch): Promise<PlainMessage[]> {
  const ends = await client.admin.offsets(topic);
  const before = ends.reduce((sum, { latest }) => sum + Number(latest), 0);
  if (before > 0) {
    screen.done(
      `topic ${topic} holds ${formatCount(before)} records of an earlier run: nothing is produced again`,
    );
    return [];
  }
  const producer = client.producer();
  try {
    const bulk = readMessages(new URL('batch_data.csv', example), { bulk: 'true' });
    const { live, late } = partStragglers(readMessages(new URL('stream_data.csv', example)));
    const begun = performance.now();
    await sendAll(producer, topic, bulk, (sent) => {
      screen.progress(
        `batch_data.csv: ${formatCount(sent)} of ${formatCount(bulk.length)} records`,
      );
    });
    const rate = Math.round(bulk.length / ((performance.now() - begun) / 1000));
    screen.done(
      `batch_data.csv: ${formatCount(bulk.length)} records produced to ${topic}, marked by the header bulk ${styleText('dim', `${formatCount(rate)}/s`)}`,
    );
    let sent = 0;
    const sending = sendLive(
      producer,
      topic,
      live,
      liveSeconds,
      (count) => (sent = count),
      stopping.signal,
    );
    const feeding = { isOn: true };
    const ended = sending.finally(() => (feeding.isOn = false));
    ended.catch(() => undefined);
    while (feeding.isOn) {
      const { stream, batch, rows, windows, corrected } = await watch.look();
      const elapsed = (performance.now() - begun) / 1000;
      screen.progress(
        `stream_data.csv: ${formatCount(sent)} of ${formatCount(live.length)} live events · accounted for: stream ${formatCount(stream)}, batch ${formatCount(batch)} · ${formatCount(rows)} rows, ${windows} windows, ${corrected} corrected · ${formatCount(Math.round(stream / elapsed))}/s`,
      );
      await pause(100, undefined, { signal: stopping.signal });
    }
    await ended;
    screen.done(
      `stream_data.csv: ${formatCount(live.length)} live events produced over ${liveSeconds} s ${styleText('dim', `${formatCount(Math.round(live.length / liveSeconds))}/s`)}`,
    );
    return late;
  } finally {
    await producer.close();
  }
}

async function sendLate(
  client: Kafka,
  topic: string,
  late: readonly PlainMessage[],
): Promise<void> {
  const producer = client.producer();
  await producer.send(topic, late);
  await producer.close();
  screen.done(`stream_data.csv: the other ${late.length} events arrive, minutes late`);
}

/** Until every record is accounted for on both branches and every window is final. */
async function settle(watch: Watch): Promise<void> {
  const begun = performance.now();
  for (;;) {
    const { stream, batch, provisional } = await watch.look();
    const isThrough = await watch.isThrough();
    if (isThrough && provisional === 0) {
      break;
    }
    for (const service of services) {
      if (!service.isRunning) {
        throw new Error(
          `${service.service} has ended${hint ? ` (${hint})` : ''}; its log is ${service.logFile}`,
        );
      }
    }
    screen.progress(
      isThrough
        ? `all records are applied; ${provisional} windows wait for the topic to be idle for 10 s, then they are final`
        : `accounted for: stream ${formatCount(stream)}, batch ${formatCount(batch)}`,
    );
    await pause(200, undefined, { signal: stopping.signal });
  }
  screen.done(
    `every record is applied, every window is final ${styleText('dim', `${((performance.now() - begun) / 1000).toFixed(1)} s later`)}`,
  );
}

async function show(watch: Watch): Promise<void> {
  screen.title('Which branch took which records, and by which rule (anabranch.split)');
  screen.table(
    await watch.query(`
      SELECT rule, CASE rule WHEN 'default' THEN 'stream' WHEN 'dead' THEN '-' ELSE 'batch' END AS branch, sum(records) AS records
      FROM anabranch.split WHERE source = 'orders' GROUP BY rule, rule_number ORDER BY rule_number NULLS LAST`),
  );
  screen.title('clean_rows: rows with a null dropped, new_column = column1 + column2');
  screen.table(
    await watch.query(`
      SELECT event_time, region, column1, column2, new_column, stream_records, batch_records, status
      FROM clean_rows ORDER BY event_time DESC LIMIT 5`),
  );
  const [rows] = await watch.query<{ count: string }>('SELECT count(*) FROM clean_rows');
  screen.note(`the newest 5 of ${formatCount(Number(rows?.count))} rows`);
  screen.title('per_minute: the same column by minute and region, from both branches');
  screen.table(
    await watch.query(`
      SELECT to_char(window_start, 'HH24:MI') AS minute, region, records, total, lowest, highest, round(average, 2) AS average,
             stream_records, batch_records, revision, status
      FROM per_minute WHERE stream_records > 0 AND batch_records > 0 ORDER BY window_start, region LIMIT 8`),
  );
  const [windows] = await watch.query<{ count: string; both: string }>(
    'SELECT count(*), count(*) FILTER (WHERE stream_records > 0 AND batch_records > 0) AS both FROM per_minute',
  );
  screen.note(
    `8 of the ${windows?.both} windows with records from both branches; ${windows?.count} in all`,
  );
  showHistory('A window on its way from provisional to final', watch.becameFinal());
  showHistory('A window that late records corrected after it was final', watch.wasCorrected());
  const corrections = await watch.query<{ count: string }>(
    `SELECT count(*) FROM anabranch.corrections WHERE table_name = 'per_minute'`,
  );
  screen.note(
    `${corrections[0]?.count} corrections in all, with the row before and after: anabranch.corrections`,
  );
}

function showHistory(title: string, found: { window: string; history: Sighting[] } | null): void {
  if (found === null) {
    return;
  }
  screen.title(`${title}: ${found.window}`);
  const { history } = found;
  const shown = history.length > 6 ? [...history.slice(0, 3), ...history.slice(-3)] : history;
  screen.table(shown);
}

async function balance(watch: Watch): Promise<boolean> {
  screen.title("The ledger's balance: in = aggregated + filtered + dead (anabranch.balance)");
  const rows = await watch.query<Record<string, string>>(
    `SELECT table_name AS "table", records AS "in", aggregated, filtered, dead, outstanding FROM anabranch.balance WHERE source = 'orders' ORDER BY 1`,
  );
  screen.table(rows);
  const faults = await watch.query(`SELECT * FROM anabranch.ledger_faults WHERE source = 'orders'`);
  const isBalanced =
    rows.length > 0 && rows.every(({ outstanding }) => outstanding === '0') && faults.length === 0;
  if (isBalanced) {
    screen.done('every record is accounted for exactly once, and the applied ranges tile');
  } else {
    screen.failed('the balance does not hold');
    screen.table(faults);
  }
  return isBalanced;
}

function tellHow(databaseUrl: string, topic: string): void {
  screen.title('Your turn');
  screen.print(
    `    psql '${databaseUrl}' -c 'select * from per_minute order by window_start desc limit 10'`,
  );
  screen.print(
    `    npm run produce -- '{"column1": "1.50", "column2": "2.25", "region": "north", "event_time": ${Date.parse('2024-11-04T09:05:00Z')}}'`,
  );
  screen.note(
    `produces to ${topic}; that record is late, so it takes the batch branch and corrects a final window`,
  );
}

/** Says what changes, until Ctrl-C. */
async function keepRunning(watch: Watch): Promise<void> {
  screen.print();
  screen.print(styleText('dim', '  Running. Ctrl-C stops everything; the data stay.'));
  let last = '';
  while (!stopping.signal.aborted) {
    for (const service of services) {
      if (!service.isRunning) {
        throw new Error(
          `${service.service} has ended${hint ? ` (${hint})` : ''}; its log is ${service.logFile}`,
        );
      }
    }
    const { stream, batch, rows, windows, provisional, corrected } = await watch.look();
    const line = `stream ${formatCount(stream)} · batch ${formatCount(batch)} · ${formatCount(rows)} rows · ${windows} windows: ${provisional} provisional, ${corrected} corrected`;
    if (line !== last && last !== '') {
      screen.print(`  ${styleText('dim', new Date().toISOString().slice(11, 19))} ${line}`);
    }
    last = line;
    await pause(1000, undefined, { signal: stopping.signal });
  }
}

async function stop(): Promise<void> {
  if (services.length > 0 || servers !== undefined) {
    screen.progress('stopping');
  }
  await Promise.all(services.map((service) => service.stop()));
  await Promise.all([pool?.end(), kafka?.close()]);
  await servers?.stop();
  if (services.length > 0) {
    screen.done('stopped');
  }
}

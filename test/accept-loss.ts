import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inject } from 'vitest';
import type { Chain } from './chain.ts';

const fusion = fileURLToPath(new URL('../apps/fusion/dist/main.mjs', import.meta.url));

export interface Answer {
  readonly code: number;
  readonly text: string;
}

/** Runs the command `accept-loss` of fusion's bundle on the chain's source. */
export async function acceptLoss(chain: Chain, ...args: string[]): Promise<Answer> {
  const env = {
    PATH: process.env['PATH'],
    KAFKA_BROKERS: inject('kafkaBrokers'),
    DATABASE_URL: chain.databaseUrl,
    ANABRANCH_DEFINITION: chain.definition,
  };
  const command = [fusion, 'accept-loss', '--source', chain.source, ...args];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, command, { env });
    return { code: 0, text: stdout };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, text: stdout + stderr };
  }
}

export interface MissingRange {
  readonly partition: number;
  readonly branch: string;
  readonly from: bigint;
  readonly to: bigint;
}

/** The ranges that the command offers to accept. */
export async function missingRanges(chain: Chain): Promise<MissingRange[]> {
  const { text } = await acceptLoss(chain);
  const offered = /--partition (\d+) --branch (\w+) --from (\d+) --to (\d+)/g;
  return [...text.matchAll(offered)].map(([, partition, branch = '', from = '', to = '']) => ({
    partition: Number(partition),
    branch,
    from: BigInt(from),
    to: BigInt(to),
  }));
}

export function argumentsOf({ partition, branch, from, to }: MissingRange): string[] {
  return ['--partition', `${partition}`, '--branch', branch, '--from', `${from}`, '--to', `${to}`];
}

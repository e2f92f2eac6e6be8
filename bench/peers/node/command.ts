import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { PeerCommand, PeerOptions } from '../peer.ts';

const program = fileURLToPath(new URL('consume.ts', import.meta.url));

export function nodeCommand(
  brokers: string,
  databaseUrl: string,
  { topic, workload }: PeerOptions,
): PeerCommand {
  const group = `node-peer-${randomBytes(4).toString('hex')}`;
  return {
    program: process.execPath,
    arguments: [program, brokers, topic, group, databaseUrl, workload],
  };
}

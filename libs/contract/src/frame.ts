import { crc32c } from '@node-rs/crc32';
import { ContractError } from './errors.ts';

/**
 * How a block, a part of a partial, a batch of dead letters and telemetry stand in a Kafka message:
 *
 * | bytes | what |
 * |---|---|
 * | 3 | `AB` and the kind |
 * | 1 | version of the contract |
 * | 4 | length of the header, big endian |
 * | 4 | CRC-32C of all that follows, big endian |
 * | … | header, Avro |
 * | … | payload |
 *
 * kafkajs checks no CRC of what it fetches, so the contract carries its own.
 */
export type Kind = 'K' | 'P' | 'D' | 'T';

const version = 1;
const prefixBytes = 12;

/** What the kinds are called in errors. */
const names: Record<Kind, string> = {
  K: 'block',
  P: 'partial',
  D: 'batch of dead letters',
  T: 'telemetry message',
};

/** Whether a message says of itself that it is of this kind; `unframe` knows whether it is. */
export function isOfKind(kind: Kind, message: Buffer): boolean {
  return message.length >= prefixBytes && message.toString('latin1', 0, 3) === `AB${kind}`;
}

export function frame(kind: Kind, header: Buffer, payload: readonly Buffer[]): Buffer {
  const message = Buffer.concat([Buffer.allocUnsafe(prefixBytes), header, ...payload]);
  message.write(`AB${kind}`, 0, 'latin1');
  message.writeUInt8(version, 3);
  message.writeUInt32BE(header.length, 4);
  message.writeUInt32BE(crc32c(message.subarray(prefixBytes)), 8);
  return message;
}

/**
 * Header and payload of a message, as views of it.
 * @throws ContractError when the message isn't of this kind and version, or was damaged.
 */
export function unframe(kind: Kind, message: Buffer): { header: Buffer; payload: Buffer } {
  const name = names[kind];
  if (!isOfKind(kind, message)) {
    throw new ContractError(
      'NOT_OURS',
      `A message of ${message.length} bytes is no ${name} of Anabranch: something else writes to this topic.`,
    );
  }
  const found = message.readUInt8(3);
  if (found !== version) {
    throw new ContractError(
      'VERSION',
      `A ${name} has version ${found} of the contract, this service reads ${version}: upgrade the services that read before those that write.`,
    );
  }
  const headerEnd = prefixBytes + message.readUInt32BE(4);
  if (
    headerEnd > message.length ||
    crc32c(message.subarray(prefixBytes)) !== message.readUInt32BE(8)
  ) {
    throw new ContractError('DAMAGED', `A ${name} of ${message.length} bytes fails its checksum.`);
  }
  return { header: message.subarray(prefixBytes, headerEnd), payload: message.subarray(headerEnd) };
}

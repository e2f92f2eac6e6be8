import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MessageReader } from './postgres-wire.ts';

function message(type: string, body: Buffer): Buffer {
  const header = Buffer.alloc(type === '' ? 4 : 5);
  header.write(type, 'latin1');
  header.writeInt32BE(body.length + 4, header.length - 4);
  return Buffer.concat([header, body]);
}

const startup = message('', Buffer.from([0, 3, 0, 0, 0]));

it('sees each message of a client once, wherever the stream is cut', () => {
  const bodies = fc.array(
    fc.tuple(fc.constantFrom('Q', 'P', 'B', 'E', 'd', 'c'), fc.uint8Array({ maxLength: 200 })),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(
      bodies,
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      (made, cuts) => {
        const stream = Buffer.concat([
          startup,
          ...made.map(([type, body]) => message(type, Buffer.from(body))),
        ]);
        const seen: string[] = [];
        const reader = new MessageReader(true, (type) => seen.push(type));
        let at = 0;
        for (let cut = 0; at < stream.length; cut++) {
          const size = cuts[cut % cuts.length] ?? 1;
          reader.read(stream.subarray(at, at + size));
          at += size;
        }
        expect(seen).toEqual(['startup', ...made.map(([type]) => type)]);
      },
    ),
  );
});

it('shows the beginning of a query', () => {
  const seen: string[] = [];
  const reader = new MessageReader(true, (type, body) => {
    if (type === 'Q') {
      seen.push(body.toString());
    }
  });
  reader.read(Buffer.concat([startup, message('Q', Buffer.from('COMMIT\0'))]));
  expect(seen).toEqual(['COMMIT\0']);
});

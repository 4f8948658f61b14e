/** The client's reading of a stream, however the network splits and rewrites it: bounded, linear, and by the standard. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { StreamEvent } from '../../src/client/stream.ts';
import type { ConnectionEnd, ConnectionOptions } from '../../src/client/transports/connection.ts';
import { openSse } from '../../src/client/transports/sse.ts';

interface Read {
  readonly events: StreamEvent[];
  readonly end: ConnectionEnd;
}

/** What the library makes of a body that arrives in these pieces. */
async function read(pieces: Iterable<Uint8Array>): Promise<Read> {
  const events: StreamEvent[] = [];
  const body = ReadableStream.from(pieces);
  const writer = {
    isCurrent: true,
    rooms: ['tenant:t'],
    cursor: 'a',
    write: ({ event, payload, cursor }: StreamEvent) => events.push({ event, payload, cursor }),
    advance() {},
  };
  const options = {
    http: { open: async () => new Response(body as never) },
    stream: { writer: () => writer },
    signals: { take() {} },
    heartbeatMs: 60_000,
  } as unknown as ConnectionOptions;
  const end = await new Promise<ConnectionEnd>((ended) => {
    openSse(options, { proven() {}, ended }).attach();
  });
  return { events, end };
}

function* split(bytes: Uint8Array, ...sizes: number[]): Generator<Uint8Array> {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? bytes.length;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

const encoder = new TextEncoder();

test('any splits, line ends, comments and a BOM give the same events', async () => {
  const event = fc.record({
    payload: fc.dictionary(fc.string(), fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.constant(null))),
    comment: fc.option(fc.string().map((text) => text.replaceAll(/[\r\n]/g, ''))),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { maxLength: 5 }),
      fc.constantFrom('\n', '\r', '\r\n'),
      fc.boolean(),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 }),
      async (sent, newline, hasBom, sizes) => {
        const lines = sent.flatMap(({ payload, comment }, index) => [
          ...(comment === null ? [] : [`:${comment}`]),
          `id: c${index}`,
          'event: messages.new',
          `data: ${JSON.stringify(payload)}`,
          '',
        ]);
        const text = (hasBom ? '\uFEFF' : '') + lines.map((line) => line + newline).join('');
        const { events } = await read(split(encoder.encode(text), ...sizes));
        assert.deepEqual(
          events,
          // As it travels: JSON has no -0, and UTF-8 no half of a surrogate pair.
          sent.map(({ payload }, index) => ({
            cursor: `c${index}`,
            event: 'messages.new',
            payload: JSON.parse(new TextDecoder().decode(encoder.encode(JSON.stringify(payload)))),
          })),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test('a payload of a megabyte may come in pieces of 128 bytes, in time that grows with its length alone', async () => {
  const timeOf = async (length: number): Promise<number> => {
    const payload = { text: 'x'.repeat(length) };
    const bytes = encoder.encode(`id: c\nevent: messages.new\ndata: ${JSON.stringify(payload)}\n\n`);
    const startedMs = performance.now();
    const { events } = await read(split(bytes, 128));
    assert.deepEqual(events, [{ event: 'messages.new', cursor: 'c', payload }]);
    return performance.now() - startedMs;
  };
  const [shortMs, longMs] = [await timeOf(256 * 1024), await timeOf(1024 * 1024)];
  // A reader that looks at all of the text with each piece takes seconds for the short one, and 16 times that for the other.
  assert.ok(longMs < 8 * shortMs + 2_000, `${shortMs} ms for 256 KiB, ${longMs} ms for 1 MiB`);
});

test('a block that is longer than any payload ends the connection with an error that says so', async () => {
  const piece = encoder.encode('x'.repeat(64 * 1024));
  let sent = 0;
  function* endless(head: string): Generator<Uint8Array> {
    yield encoder.encode(head);
    for (sent = 0; sent < 1000; sent++) yield piece;
  }
  for (const head of ['data: ', 'event: a\ndata: 1\nid: ']) {
    const { events, end } = await read(endless(head));
    assert.equal(end.error?.code, 'unreachable');
    assert.match(end.error?.message ?? '', /more than 4194304 characters/);
    assert.ok(end.error?.passing, 'another transport, or another connection, may do');
    assert.deepEqual(events, []);
    assert.ok(sent < 100, `${sent} pieces were read`);
  }
});

test('a comment, or a line that no field begins, may be of any length', async () => {
  const piece = encoder.encode('x'.repeat(1024 * 1024));
  function* pieces(): Generator<Uint8Array> {
    for (const head of [': ', 'unknown: ']) {
      yield encoder.encode(head);
      for (let count = 0; count < 6; count++) yield piece;
      yield encoder.encode('\n');
    }
    yield encoder.encode('id: c\nevent: messages.new\ndata: {}\n\n');
  }
  const { events, end } = await read(pieces());
  assert.deepEqual(events, [{ event: 'messages.new', cursor: 'c', payload: {} }]);
  assert.deepEqual(end, {});
});

test('retry is taken from the block that has it, and honoured after its end', async () => {
  const { end } = await read([encoder.encode('retry: 1234\nevent: bridge.cursor\nid: a\ndata: {}\n\n')]);
  assert.equal(end.retryAfterMs, 1234);
});

// A bridge inside another Node program. Run: npm run build && node docs/examples/in-process.mjs
import { createBridge } from 'roomcast';

const bridge = await createBridge({ port: 0, storeUrl: 'sqlite::memory:', logLevel: 'warn' });
const { url } = await bridge.listen();

// Clients can listen over HTTP or Socket.IO. This is a minimal SSE client.
const stream = await fetch(`${url}/sse?tenantId=tenant-1&legacy=false`);
const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
console.log((await reader.read()).value);

const published = await bridge.publish(
  'tickets.updated',
  {
    tenantId: 'tenant-1',
    ticketId: 'ticket-123',
    ticketStatus: 'OPEN',
    ticketUpdatedAt: new Date().toISOString(),
    ticket: { subject: 'Olá' },
  },
  { idempotencyKey: 'update-1' },
);
console.log(published);
console.log((await reader.read()).value);

await reader.cancel();
await bridge.close();

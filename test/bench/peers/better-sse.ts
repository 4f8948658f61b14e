/** better-sse as its guide has it: one channel per room, `broadcast`. */
import { type Channel, createChannel, createSession } from 'better-sse';
import { announce, createHttpServer, readEnvelope } from './serve.ts';

const channels = new Map<string, Channel>();
function channelOf(room: string): Channel {
  const channel = channels.get(room) ?? createChannel();
  channels.set(room, channel);
  return channel;
}

const server = createHttpServer((request, response) => {
  if (request.method === 'POST') {
    readEnvelope(request).then(
      ({ event, payload }) => {
        channels.get(payload.tenantId)?.broadcast(payload, event);
        response.writeHead(201, { 'Content-Type': 'application/json' }).end('{"ok":true}');
      },
      () => response.writeHead(400).end(),
    );
    return;
  }
  const room = new URL(request.url ?? '/', 'http://localhost').searchParams.get('tenantId') ?? '';
  createSession(request, response).then(
    (session) => channelOf(room).register(session),
    () => response.destroy(),
  );
});
announce(server);

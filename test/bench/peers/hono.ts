/** Hono's `streamSSE` as commonly written: a stream per listener, `writeSSE` for each event. */
import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { announce, type Envelope } from './serve.ts';

type Send = (event: string, data: string, id: string) => void;

const rooms = new Map<string, Set<Send>>();
let sequence = 0;

const app = new Hono();
app.get('/sse', (context) =>
  streamSSE(context, async (stream) => {
    const room = context.req.query('tenantId') ?? '';
    const listeners = rooms.get(room) ?? new Set();
    rooms.set(room, listeners);
    const send: Send = (event, data, id) => void stream.writeSSE({ event, data, id });
    listeners.add(send);
    await new Promise<void>((resolve) => {
      stream.onAbort(() => {
        listeners.delete(send);
        resolve();
      });
    });
  }),
);
app.post('/events', async (context) => {
  const { event, payload } = await context.req.json<Envelope>();
  const data = JSON.stringify(payload);
  const id = String(++sequence);
  for (const send of rooms.get(payload.tenantId) ?? []) send(event, data, id);
  return context.json({ ok: true }, 201);
});
announce(createAdaptorServer({ fetch: app.fetch }) as Server);

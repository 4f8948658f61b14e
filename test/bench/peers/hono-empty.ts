/** The least that an HTTP publish may cost here: a Hono route that parses the JSON and does nothing with it. */
import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { announce } from './serve.ts';

const app = new Hono();
app.post('/events', async (context) => {
  await context.req.json();
  return context.json({ ok: true }, 201);
});
announce(createAdaptorServer({ fetch: app.fetch }) as Server);

/**
 * protocol §15, `DELETE /connections`: it closes the transport and nothing else. Every client comes back by itself and gets
 * each record once and in order, however often an operator closes its connection.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { canonical } from '../delivery/conformance.ts';
import { messageNew, metric } from '../support/bridge.ts';
import { CLIENTS, type Client } from '../support/clients.ts';
import { until } from '../support/until.ts';
import { admin, adminOf, call, connections, hold, JWT, PLACES, sign, TRANSPORTS, untilListed } from './support.ts';

/** Where one of a kind is enough. */
const STOCK: readonly string[] = ['websocket', 'sse', 'the client library'];

for (const { name, skip, nodes, start } of PLACES) {
  describe(`closing connections: ${name}`, { skip }, () => {
    it('closes one by its id, on whichever node it is, and answers 404 afterwards', async (t) => {
      const { a, b } = await start(t, JWT);
      const root = await admin();
      for (const transport of TRANSPORTS) {
        const stays = await hold(t, transport, b, ['ticket:1'], { token: await sign({ sub: 'stays' }) });
        const held = await hold(t, transport, b, ['ticket:1'], { token: await sign({ sub: 'goes' }) });
        held.socket?.io.reconnection(false);
        const [item] = await untilListed(a, 1, { sub: 'goes' }, root);
        let stayed = true;
        void stays.ended.then(() => {
          stayed = false;
        });
        const path = `/connections/${encodeURIComponent(item?.id as string)}`;
        const { status, body } = await call(a, `DELETE ${path}`, root);
        assert.deepEqual([status, body], [200, { closed: 1 }], transport);
        const answer = await held.ended;
        // A poll that waited is answered, or cut; in both cases the client asks again.
        assert.ok([0, 200, 204, 503].includes(answer), `${transport}: ${answer}`);
        await untilListed(a, 0, { sub: 'goes' }, root);
        for (const node of [a, b]) {
          for (const method of ['GET', 'DELETE']) {
            const gone = await call(node, `${method} ${path}`, root);
            assert.deepEqual([gone.status, gone.body.code], [404, 'not_found']);
          }
        }
        assert.equal(stayed, true, transport);
        assert.equal((await connections(a, { sub: 'stays' }, root)).length, 1);
        stays.close();
        await untilListed(a, 0, {}, root);
      }
    });

    it('closes all that a filter finds, on every node, and says how many', async (t) => {
      const { a, b } = await start(t, JWT);
      const root = await admin();
      const open = async (sub: string, tenantId: string, room: string) => {
        for (const [index, transport] of TRANSPORTS.entries()) {
          const token = await sign({ sub, tenantId });
          const held = await hold(t, transport, index % 2 === 0 ? a : b, [room], { token });
          held.socket?.io.reconnection(false);
        }
      };
      await open('one', 't1', 'ticket:1');
      await open('one', 't2', 'ticket:2');
      await open('two', 't1', 'ticket:2');
      await untilListed(a, 12, {}, root);
      const close = async (query: string, closed: number) => {
        const { status, body } = await call(b, `DELETE /connections?${query}`, root);
        assert.deepEqual([status, body], [200, { closed }], query);
      };
      await close('sub=nobody', 0);
      await close('sub=one&tenantId=t1&transport=sse', 1);
      await close('sub=one&tenantId=t1', 3);
      await close('room=ticket:2&transport=longpoll', 2);
      await untilListed(a, 6, {}, root);
      await close('address=127.0.0.1', 6);
      await untilListed(a, 0, {}, root);
    });

    it('takes at least one filter, and says which there are', async (t) => {
      const { a, b } = await start(t);
      const held = await hold(t, 'sse', b, ['ticket:1']);
      let ended = false;
      void held.ended.then(() => {
        ended = true;
      });
      for (const query of ['', '?', '?_=1', '?limit=10', '?page=x', '?sub=', '?room=', '?subject=x', '?transport=x']) {
        const { status, body, text } = await call(a, `DELETE /connections${query}`);
        assert.equal(status, 400, `${query}: ${text}`);
        if (query.length <= 4) {
          assert.equal(body.code, 'invalid_request');
          for (const filter of ['tenantId', 'sub', 'room', 'address', 'transport'])
            assert.ok(text.includes(filter), text);
        }
      }
      assert.equal((await connections(a)).length, 1);
      assert.equal(ended, false);
    });

    for (const [client, { connect }] of Object.entries(CLIENTS)) {
      if (nodes > 1 && !STOCK.includes(client)) continue;
      it(`${client} comes back each time and gets everything once`, async (t) => {
        const { a, b } = await start(t, { ...JWT, retryMs: 20, rateJoins: 100_000 });
        const root = await admin();
        const token = await sign({ sub: 'the client' });
        const tenantId = 't1';
        const heard: Client = await connect(b.url, { tenantId: [tenantId] }, { token });
        t.after(() => heard.close());
        const published: string[] = [];
        let closed = 0;
        for (let round = 0; round < 4; round++) {
          for (let n = 0; n < 5; n++) {
            published.push((await a.publish('messages.new', messageNew({ tenantId }))).id);
          }
          await until('the client is connected', async () => {
            const { status, body } = await call(a, 'DELETE /connections?sub=the%20client', root);
            assert.equal(status, 200);
            closed += body.closed;
            return body.closed > 0;
          });
          for (let n = 0; n < 5; n++) {
            published.push((await b.publish('messages.new', messageNew({ tenantId }))).id);
          }
        }
        await until('it has everything', () => canonical(heard.heard).length >= published.length);
        assert.deepEqual(
          canonical(heard.heard).map(({ id }) => id),
          published,
        );
        assert.deepEqual(heard.resets, []);
        assert.ok(closed >= 4);
        await until('it is listed once', async () => (await connections(a, { sub: 'the client' }, root)).length <= 1);
        assert.equal(await metric(b, 'roomcast_refused_total{code="unauthorized"}'), 0);
      });
    }

    it('closes nothing that the operator does not see', async (t) => {
      const { a, b } = await start(t, JWT);
      const root = await admin();
      const one = await adminOf('t1');
      const tokens = [
        { sub: 'mine', tenantId: 't1' },
        { sub: 'shared', tenantId: ['t1', 't2'] },
        { sub: 'theirs', tenantId: 't2' },
      ];
      for (const claims of tokens) {
        for (const transport of TRANSPORTS) {
          const held = await hold(t, transport, b, ['ticket:1'], { token: await sign(claims) });
          held.socket?.io.reconnection(false);
        }
      }
      const items = await untilListed(a, 12, {}, root);
      for (const { id, sub } of items.filter(({ sub }) => sub !== 'mine')) {
        const unknown = await call(a, `DELETE /connections/${'x'.repeat(id.length)}`, one);
        const { status, body } = await call(a, `DELETE /connections/${encodeURIComponent(id)}`, one);
        assert.deepEqual([status, body.code], [404, 'not_found'], sub as string);
        assert.equal(body.detail.replaceAll(id, ''), unknown.body.detail.replaceAll('x'.repeat(id.length), ''));
      }
      const { body } = await call(a, 'DELETE /connections?address=127.0.0.1', one);
      assert.deepEqual(body, { closed: 4 });
      await untilListed(a, 8, {}, root);
      for (const query of ['sub=shared', 'sub=theirs', 'room=ticket:1', 'transport=sse']) {
        assert.deepEqual((await call(a, `DELETE /connections?${query}`, one)).body, { closed: 0 }, query);
      }
      const of = await call(a, 'DELETE /connections?tenantId=t2', one);
      assert.ok(of.status === 403 || of.body.closed === 0, of.text);
      await untilListed(a, 8, {}, root);
    });
  });
}

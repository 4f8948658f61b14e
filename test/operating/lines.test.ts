/**
 * protocol §15: what the program's own log says of a connection at `LOG_LEVEL=debug`, with the id of the listing; and that
 * no token is in any line, answer or error, wherever a client puts it.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { io } from 'socket.io-client';
import { ticketUpdated } from '../support/bridge.ts';
import { openRaw } from '../support/raw.ts';
import { openRawWebSocket } from '../support/raw-websocket.ts';
import { spawnServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { admin, call, hold, nowS, SECRET, sign, TRANSPORTS } from './support.ts';

interface Line {
  readonly msg: string;
  readonly connection?: string;
  readonly [key: string]: unknown;
}

describe('the lines of a connection', () => {
  let url = '';
  let output = '';
  let stop = async (): Promise<void> => {};
  before(async () => {
    const { process: child, stderr } = spawnServer({
      STORE_URL: 'sqlite::memory:',
      AUTH_MODE: 'jwt',
      JWT_SECRET: SECRET,
      LOG_LEVEL: 'debug',
    });
    child.stdout?.setEncoding('utf8').on('data', (chunk) => {
      output += chunk;
    });
    await until('it listens', () => {
      url = /"url":"([^"]+)"/.exec(output)?.[1] ?? '';
      return url !== '';
    });
    stop = async () => {
      child.kill('SIGTERM');
      await until('it has ended', () => child.exitCode !== null);
      assert.equal(stderr(), '');
    };
  });
  after(() => stop());
  const bridge = () => ({ url }) as never;
  const lines = (): Line[] =>
    output
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  const of = (connection: string, msg: string): Line[] =>
    lines().filter((line) => line.connection === connection && line.msg === msg);

  for (const transport of TRANSPORTS) {
    it(`${transport}: connected, joined, left, refused and disconnected, with the id of the listing`, async (t) => {
      const root = await admin();
      const sub = `user of ${transport}`;
      const held = await hold(t, transport, bridge(), ['ticket:1'], { token: await sign({ sub }) });
      let id = '';
      await until('it is listed', async () => {
        const { body } = await call(bridge(), `GET /connections?sub=${encodeURIComponent(sub)}`, root);
        id = body.items[0]?.id ?? '';
        return id !== '';
      });
      await until('connected', () => of(id, 'connected').length === 1);
      const [connected] = of(id, 'connected') as [Line];
      const who = { transport, address: '127.0.0.1', sub, tenantIds: ['t1'] };
      for (const [key, value] of Object.entries(who)) assert.deepEqual(connected[key], value, key);
      // A stream has its rooms from the start.
      if (held.socket === null) assert.match(JSON.stringify(connected), /ticket:1/);
      else {
        await until('joined', () => of(id, 'joined').length >= 1);
        assert.match(JSON.stringify(of(id, 'joined')), /ticket:1/);
        await held.socket.emitWithAck('leave-ticket', '1');
        await until('left', () => of(id, 'left').length >= 1);
        assert.match(JSON.stringify(of(id, 'left')), /ticket:1/);
        assert.equal((await held.socket.emitWithAck('join-tenant', 't9')).ok, false);
        await until('refused', () => of(id, 'refused').length >= 1);
        assert.match(JSON.stringify(of(id, 'refused')), /forbidden/);
      }
      held.close();
      await until('disconnected', () => of(id, 'disconnected').length === 1);
      const all = lines().filter(({ connection }) => connection === id);
      for (const line of all)
        for (const [key, value] of Object.entries(who)) assert.deepEqual(line[key], value, line.msg);
      assert.equal(all[0]?.msg, 'connected');
      assert.equal(all.at(-1)?.msg, 'disconnected');
    });
  }

  it('hold no token, wherever it was put', async (t) => {
    const root = await admin();
    const tokens: string[] = [root];
    const fresh = async (claims = {}): Promise<string> => {
      const token = await sign({ jti: `j${tokens.length}`, ...claims });
      tokens.push(token);
      return token;
    };
    const answers: string[] = [];
    const ask = async (route: string, token?: string, body?: unknown, headers?: Record<string, string>) => {
      answers.push((await call(bridge(), route, token, body, headers)).text);
    };
    const expired = () => fresh({ exp: nowS() - 60 });
    for (const make of [fresh, expired, () => fresh({ scope: 'x' })]) {
      const at = await make();
      await ask(`GET /events?tenantId=t9&access_token=${at}`);
      await ask(`GET /events?tenantId=t9&ACCESS_TOKEN=${at}`);
      await ask(`GET /events?tenantId=t9&token=${at}`);
      await ask(`GET /events?tenantId=t9&pass=${at}`);
      await ask(`GET /events?tenantId=${at}`);
      await ask(`GET /events?${at}=1`);
      await ask(`GET /sse?tenantId=t9&access_token=${at}&access_token=${at}`);
      await ask(`GET /${at}`);
      await ask(`GET /log?contains=${at}&access_token=${await make()}`);
      await ask(`GET /connections/${at}?access_token=${await make()}`);
      await ask(`DELETE /connections?access_token=${await make()}`);
      await ask(`GET /refusals?access_token=${await make()}&x=1`);
      await ask('GET /events?tenantId=t9', undefined, undefined, { authorization: `Basic ${at}` });
      await ask('GET /events?tenantId=t9', undefined, undefined, { authorization: `Bearer  ${at} x` });
      await ask('GET /events?tenantId=t9', undefined, undefined, { cookie: `access_token=${await make()}` });
      await ask('GET /events?tenantId=t9', undefined, undefined, { cookie: `a=${at}; access_token="${at}"` });
      await ask('GET /events?tenantId=t9', undefined, undefined, {
        'user-agent': `curl ${at}`,
        authorization: 'Bearer',
      });
      await ask('GET /events?tenantId=t9', undefined, undefined, { origin: `http://${at.slice(0, 60)}` });
      await ask('GET /events?tenantId=t9', undefined, undefined, {
        'x-forwarded-for': at,
        referer: `http://x/?t=${at}`,
      });
      await ask('POST /events', await make(), `{"event":"${at}"`);
      await ask('POST /events', await make(), { event: at, payload: ticketUpdated() });
      for (const transport of ['websocket', 'polling']) {
        const token = await make();
        const socket = io(url, { transports: [transport], forceNew: true, reconnection: false, auth: { token } });
        t.after(() => void socket.disconnect());
        await new Promise<void>((resolve) => {
          socket.once('connect', resolve);
          socket.once('connect_error', (error: Error & { data?: unknown }) => {
            answers.push(error.message, JSON.stringify(error.data ?? null));
            resolve();
          });
        });
        if (socket.connected) {
          answers.push(JSON.stringify(await socket.emitWithAck('join', [`ticket:${at}`.slice(0, 100), 'tenant:t9'])));
          answers.push(JSON.stringify(await socket.emitWithAck('join-tenant', 't9', { token })));
          answers.push(JSON.stringify(await socket.emitWithAck('join-tenant', 't1', { after: token })));
          answers.push(JSON.stringify(await socket.timeout(5000).emitWithAck(token, 1)));
        }
        const inQuery = io(`${url}?access_token=${token}&token=${token}`, {
          transports: [transport],
          forceNew: true,
          reconnection: false,
        });
        t.after(() => void inQuery.disconnect());
        await new Promise<void>((resolve) => {
          inQuery.once('connect', resolve);
          inQuery.once('connect_error', (error) => {
            answers.push(error.message);
            resolve();
          });
        });
      }
      const raw = openRaw(url);
      raw.send(`GET /sse?access_token=${at}&${'x'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      await until('it is refused', () => raw.closed || raw.responses().length > 0);
      answers.push(raw.bytes().toString('latin1'));
      raw.destroy();
      const bad = openRaw(url);
      bad.send(`GET /sse?access_token=${at} HTTP/9.9\r\nAuthorization: Bearer ${at}\r\n\r\n`);
      await until('it is refused', () => bad.closed || bad.responses().length > 0);
      answers.push(bad.bytes().toString('latin1'));
      bad.destroy();
      const ws = await openRawWebSocket(url, `EIO=4&transport=websocket&access_token=${at}&sid=${at}`);
      answers.push(ws.text());
      ws.destroy();
    }
    for (const path of ['/refusals?limit=1000', '/connections?limit=1000', '/stats', '/log?limit=1000']) {
      answers.push((await call(bridge(), `GET ${path}`, root)).text);
    }
    const marker = 'the last line';
    await ask(`GET /events?tenantId=t9&${encodeURIComponent(marker)}=1`);
    await until('the lines are there', () => lines().some(({ msg }) => msg === 'refused'));
    // The signature is what makes a token a token; a client that writes its token where a name belongs is shown it in the answer that it alone gets.
    for (const token of tokens) {
      const signature = token.split('.')[2] as string;
      assert.ok(
        !output.includes(signature),
        `in a line: ${output.split('\n').find((line) => line.includes(signature))}`,
      );
      assert.ok(!output.includes(token.slice(0, 60)) || !output.includes(token), 'the whole token');
    }
    const listed = answers.slice(-5, -1).join('\n');
    for (const token of tokens) {
      const signature = token.split('.')[2] as string;
      assert.ok(!listed.includes(signature), `listed: ${listed.slice(listed.indexOf(signature) - 300).slice(0, 400)}`);
    }
  });
});

/** The tabs of a browser that share a connection, or have one each: hidden, closed, crashed, frozen, hung and reloaded. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { messageNew, metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM } from '../support/browser.ts';
import { startObstacle } from '../support/obstacles.ts';
import { keepPublishing, type Publishing } from '../support/publishing.ts';
import { startTabs, type Tab, type Tabs } from '../support/tabs.ts';
import { until } from '../support/until.ts';

/** What the library promises, in milliseconds. */
const HANDOVER_MS = 2_000;

let tenants = 0;
const freshTenant = (): string => `tabs-${++tenants}`;

describe('in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let browser: Tabs;
  let bridge: TestBridge;
  before(async () => {
    browser = await startTabs();
    bridge = await startBridge({ heartbeatMs: 500, retryMs: 20, corsOrigins: [browser.origin] });
  });
  after(async () => {
    await browser.close();
    await bridge.close();
  });
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  /** With a lock of its own, by which `leaderOf` knows it. */
  async function connectOn(tab: Tab, name: number, options: object): Promise<void> {
    const given = { url: bridge.url, heartbeatMs: 500, patienceMs: 1500, ...options };
    await tab.evaluate(`
      void navigator.locks.request('tab-${name}', () => new Promise(() => {}));
      connectHere(${JSON.stringify(given)});
      window.downMs = 0;
      let since = null;
      live.on('status', ({ state }) => {
        if (state !== 'live') since ??= Date.now();
        else if (since !== null) { downMs = Math.max(downMs, Date.now() - since); since = null; }
      });
    `);
  }

  async function open(count: number, options: object): Promise<Map<number, Tab>> {
    const tabs = new Map<number, Tab>();
    for (let name = 0; name < count; name++) {
      const tab = await browser.open();
      closing.push(() => tab.close().catch(() => {})); // the test may have closed it
      await connectOn(tab, name, options);
      tabs.set(name, tab);
    }
    await allLive(tabs);
    return tabs;
  }

  async function each<T>(tabs: ReadonlyMap<number, Tab>, expression: string): Promise<T[]> {
    return Promise.all([...tabs.values()].map((tab) => tab.evaluate<T>(expression)));
  }

  const allLive = (tabs: ReadonlyMap<number, Tab>): Promise<void> =>
    until('all live', async () => (await each(tabs, 'live.status.state')).every((state) => state === 'live'), 30_000);

  async function leaderOf(tabs: ReadonlyMap<number, Tab>): Promise<number> {
    const [any] = [...tabs.values()] as [Tab];
    const held = await any.evaluate<{ name: string; clientId: string }[]>(
      'navigator.locks.query().then((q) => q.held)',
    );
    const leader = held.find(({ name }) => /^roomcast:[0-9a-f]+$/.test(name))?.clientId;
    const lock = held.find(({ name, clientId }) => name.startsWith('tab-') && clientId === leader);
    return lock === undefined ? -1 : Number(lock.name.slice('tab-'.length));
  }

  function publishOn(tenantId: string, pauseMs: number): Publishing {
    const publishing = keepPublishing(
      async () => (await bridge.publish('messages.new', messageNew({ tenantId, agreementId: null }))).id,
      pauseMs,
    );
    closing.push(publishing.stop);
    return publishing;
  }

  async function heardAll(tabs: ReadonlyMap<number, Tab>, published: readonly string[]): Promise<void> {
    for (const tab of tabs.values()) {
      await until('all heard', async () => (await tab.evaluate<number>('heard.length')) >= published.length, 30_000);
      assert.deepEqual(await tab.evaluate('heard'), published);
    }
  }

  const connections = (transport: string): Promise<number> =>
    metric(bridge, `roomcast_connections{transport="${transport}"}`);

  test('twenty tabs have one connection, and all hear all, in order, once, at full speed', async () => {
    const tenantId = freshTenant();
    const tabs = await open(20, { rooms: { tenantId }, share: true });
    await until('one connection', async () => (await connections('websocket')) === 1);
    assert.equal((await connections('sse')) + (await connections('longpoll')), 0);
    const publishing = publishOn(tenantId, 1);
    await until('a long list', () => publishing.published.length > 1000, 30_000);
    await heardAll(tabs, await publishing.stop());
    assert.deepEqual([...new Set(await each(tabs, 'by.at(-1)'))], ['websocket']);
  });

  test('a leader that is closed, frozen, hung, reloaded or crashed is replaced at once, and nothing is lost or doubled', async () => {
    const tenantId = freshTenant();
    const options = { rooms: { tenantId }, share: true };
    const tabs = await open(8, options);
    const publishing = publishOn(tenantId, 10);
    const away: [number, Tab][] = [];
    for (const cause of ['closed', 'frozen', 'hung', 'reloaded', 'crashed']) {
      const leader = await leaderOf(tabs);
      const tab = tabs.get(leader) as Tab;
      tabs.delete(leader);
      // One of the others is looked at: a hidden tab needs no connection within two seconds.
      const [, viewed] = [...tabs][0] as [number, Tab];
      await viewed.show();
      await until('visible', () => viewed.evaluate('document.visibilityState === "visible"'));
      await each(tabs, 'downMs = 0');
      if (cause === 'closed') await tab.close();
      else if (cause === 'frozen') await tab.freeze();
      else if (cause === 'hung') tab.begin('for (const end = Date.now() + 6000; Date.now() < end;);');
      else if (cause === 'reloaded') await tab.reload();
      else tab.crash();
      await until(`another leads, not the one that is ${cause}`, async () => {
        const now = await leaderOf(tabs);
        return now !== leader && now !== -1;
      });
      await allLive(tabs);
      const downMs = Math.max(...(await each<number>(tabs, 'downMs')));
      assert.ok(downMs < HANDOVER_MS * 2, `${cause}: down for ${downMs} ms`);
      if (cause === 'frozen' || cause === 'hung') away.push([leader, tab]);
    }
    for (const [name, tab] of away) {
      await tab.thaw();
      tabs.set(name, tab);
    }
    await allLive(tabs);
    await until('one connection', async () => (await connections('websocket')) === 1);
    await heardAll(tabs, await publishing.stop());
  });

  test('a hidden leader whose timers are slow is replaced by the tab that is looked at when its connection is lost', async () => {
    const tenantId = freshTenant();
    const between = await startObstacle(bridge.url);
    closing.push(between.close);
    const tabs = await open(2, { url: between.url, rooms: { tenantId }, transports: ['websocket'], share: true });
    let leading = await leaderOf(tabs);
    // On a busy machine, the tab that is looked at may have taken the lead.
    await until('a hidden tab leads', async () => {
      await tabs.get(1 - leading)?.show();
      const before = leading;
      leading = await leaderOf(tabs);
      return leading === before;
    });
    const leader = tabs.get(leading) as Tab;
    // A browser does this to a tab that has been hidden for five minutes.
    await leader.evaluate(`
      const set = setTimeout;
      window.setTimeout = (act, ms, ...given) => set(act, ms + 60_000, ...given);
    `);
    between.cut();
    await until('lost', async () => (await leader.evaluate<string>('live.status.state')) === 'reconnecting');
    await until('the other leads', async () => (await leaderOf(tabs)) === 1 - leading);
    await allLive(tabs);
    await heardAll(tabs, [(await bridge.publish('messages.new', messageNew({ tenantId }))).id]);
  });

  test('the rooms of a tab that crashed are left', async () => {
    const tenantId = freshTenant();
    await open(1, { rooms: { tenantId }, share: true });
    const tab = await browser.open();
    closing.push(tab.close);
    await connectOn(tab, 1, { rooms: { ticketId: tenantId }, share: true });
    const joined = async (): Promise<boolean> => {
      const response = await fetch(`${bridge.url}/connections?room=ticket:${tenantId}`);
      return ((await response.json()) as { items: unknown[] }).items.length > 0;
    };
    await until('joined', joined);
    tab.crash();
    await until('left', async () => !(await joined()));
  });

  test('a page that is left, and shown again by the back button, is as it was, and catches up', async () => {
    const tenantId = freshTenant();
    const tabs = await open(2, { rooms: { tenantId }, share: true });
    const leader = tabs.get(0) as Tab;
    await leader.show();
    await leader.evaluate('window.isOld = true; location.href = "/other"; true');
    await until('left', () => leader.evaluate<boolean>('window.isOld === undefined'));
    const published = [(await bridge.publish('messages.new', messageNew({ tenantId }))).id];
    await heardAll(new Map([...tabs].slice(1)), published);
    await leader.evaluate('history.back()');
    await until('back', () => leader.evaluate<boolean>('window.isOld === true').catch(() => false)); // between two pages
    await heardAll(tabs, published);
  });

  test('twenty tabs that do not share, where no websocket passes, all hear all, and plain requests pass', async () => {
    const tenantId = freshTenant();
    const tabs = await open(20, { rooms: { tenantId }, transports: ['sse', 'poll'], patienceMs: 6000 });
    const published: string[] = [];
    let most = 0;
    for (let events = 0; events < 20; events++) {
      published.push((await bridge.publish('messages.new', messageNew({ tenantId, agreementId: null }))).id);
      most = Math.max(most, (await connections('sse')) + (await connections('longpoll')));
    }
    const [last] = [...tabs.values()].slice(-1) as [Tab];
    assert.equal(
      await last.evaluate(`fetch('${bridge.url}/events?tenantId=none&after=now').then((r) => r.status)`),
      200,
    );
    await heardAll(tabs, published);
    assert.ok(most <= 5, `${most} requests wait`);
    assert.equal((await each(tabs, 'live.status.transport')).filter((transport) => transport === 'sse').length, 4);
  });
});

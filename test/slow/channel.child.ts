/** A node in a process of its own, whose monotonic clock begins when it starts: `node channel.child.ts URL TEXT`. */
import { createLogger } from '../../src/logger.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';

const [url = '', text = ''] = process.argv.slice(2);
const store = await openRedisStore({ url, keying: 'room', logger: createLogger('silent') });
store.onBroadcast(() => {});
setInterval(() => store.broadcast(text), 20);

// event-source-polyfill in a page with a bundler. It sends headers, and resumes by `?lastEventId=`.
import { EventSourcePolyfill } from 'event-source-polyfill';

const source = new EventSourcePolyfill('http://localhost:4003/sse?tenantId=tenant-1&legacy=false', {
  // headers: { authorization: `Bearer ${token}` },
  heartbeatTimeout: 45_000, // its default. It reconnects after so long a silence; the server sends something every 15 s
});
source.addEventListener('messages.new', ({ data, lastEventId }) => {
  console.log('messages.new', lastEventId, JSON.parse(data).messageId);
});
source.addEventListener('bridge.reset', ({ data }) => console.warn('events are lost, read the state:', data));

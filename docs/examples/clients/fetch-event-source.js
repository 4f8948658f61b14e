// @microsoft/fetch-event-source in a page with a bundler. It sends headers, so the URL holds no token.
import { fetchEventSource } from '@microsoft/fetch-event-source';

await fetchEventSource('http://localhost:4003/sse?tenantId=tenant-1&legacy=false', {
  // headers: { authorization: `Bearer ${token}` },
  openWhenHidden: true,
  onmessage({ event, id, data }) {
    if (event === 'messages.new') console.log(event, id, JSON.parse(data).messageId);
    if (event === 'bridge.reset') console.warn('events are lost, read the state:', data);
  },
  onclose() {
    throw new Error('The stream ended.'); // without this it stays closed
  },
});

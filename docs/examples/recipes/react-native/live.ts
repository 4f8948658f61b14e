// React Native 0.81 or newer. Install: npm install @roomcast/client socket.io-client
import { type ConnectOptions, connect, type Live } from '@roomcast/client';
import { AppState } from 'react-native';

/** `connect` for an app: the system suspends it in the background, and it catches up when it is in front again. */
export function connectApp(options: ConnectOptions): Live {
  // Its `fetch` cannot read an answer before its end, so there is no SSE.
  const live = connect({ transports: ['websocket', 'poll'], ...options });
  const subscription = AppState.addEventListener('change', (state) => {
    if (state === 'active') live.wake();
  });
  live.on('status', ({ state }) => {
    if (state === 'closed') subscription.remove();
  });
  return live;
}

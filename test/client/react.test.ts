/** The adapter for React: in Chromium with React 19 and 18, rendered by a server, and its types. */
import { describeAdapter } from './adapter.conformance.ts';

describeAdapter('React 19', 'react-page.js');

/** The adapter for Vue: in Chromium, rendered by a server, and its types. */
import { describeAdapter } from './adapter.conformance.ts';

describeAdapter('Vue', 'vue-page.js');

/** `npm start`: the server, configured by the environment alone. */
import { serve } from './serve.ts';

try {
  process.exit(await serve(process.env));
} catch (error) {
  process.stderr.write(`roomcast: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

/**
 * Refused handshakes and requests of this endpoint, in the log with their reason (protocol §5). Anybody can cause them, so
 * the lines of each code are limited; a line says how many like it were left out.
 */
import type { Requester } from '../../answers/refusals.ts';
import { clientAddress, TokenBucket } from '../../auth/limits.ts';
import type { BridgeError } from '../../contract/errors.ts';
import type { Logger } from '../../logger.ts';

/** Lines of one code: as many at once, and as many in each second after. */
const LINES_PER_SECOND = 5;

export function createRefusalLog(logger: Logger, trustProxy: number) {
  const kinds = new Map<string, { readonly bucket: TokenBucket; leftOut: number }>();

  return ({ code, message }: BridgeError, request: Requester): void => {
    const nowMs = performance.now();
    const kind = kinds.get(code) ?? { bucket: new TokenBucket(LINES_PER_SECOND, nowMs), leftOut: 0 };
    kinds.set(code, kind);
    if (kind.bucket.waitSeconds(nowMs) > 0) {
      kind.leftOut++;
      return;
    }
    kind.bucket.take(1, nowMs);
    const address = clientAddress(request, trustProxy);
    logger.info({ code, reason: message, address, leftOut: kind.leftOut }, 'a Socket.IO client was refused');
    kind.leftOut = 0;
  };
}

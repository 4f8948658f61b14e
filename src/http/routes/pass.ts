/** `POST /pass` (protocol §11): a listen-only stand-in for the caller's token, for places that only take a URL. */
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import type { Auth } from '../../auth/auth.ts';
import type { Principal } from '../../auth/principal.ts';

export interface PassDeps {
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
  readonly mintPass: Auth['mintPass'];
}

export function createPassRoute({ authenticate, mintPass }: PassDeps): Handler {
  return async (context) => {
    const minted = await mintPass(await authenticate(context));
    return answer(
      context,
      201,
      { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' },
      JSON.stringify({ pass: minted.pass, expiresInSeconds: minted.expiresInSeconds }),
    );
  };
}

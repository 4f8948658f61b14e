/** `POST /pass` (protocol §11): a short-lived, listen-only stand-in for the caller's token, safe to put in a URL. */
import { type Authenticate, answerJson, type Handler } from '../../answers/answer.ts';
import { requireNoQuery } from '../../answers/query.ts';
import type { Auth } from '../../auth/auth.ts';

export interface PassDeps {
  readonly authenticate: Authenticate;
  readonly mintPass: Auth['mintPass'];
}

export function createPassRoute({ authenticate, mintPass }: PassDeps): Handler {
  return async (context) => {
    const principal = await authenticate(context);
    requireNoQuery(context);
    const { pass, expiresInSeconds } = await mintPass(principal);
    return answerJson(context, 201, JSON.stringify({ pass, expiresInSeconds }));
  };
}

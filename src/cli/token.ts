/**
 * `roomcast token`: creates a token for tests, signed with the server's own secret, so that you can see what a tenant
 * sees. The server accepts every token that it prints: the command verifies it as the server does. Tokens for people
 * come from an identity provider (docs/security.md).
 */
import { SignJWT } from 'jose';
import { createTokenVerifier } from '../auth/tokens.ts';
import { parseConfig } from '../config.ts';
import { idsClaim, isDeclarableKind } from '../contract/rooms.ts';
import { checkNames, idsIn, listOf, parseFlags, secondsOf, UsageError } from './arguments.ts';
import { complain } from './output.ts';

export const TOKEN_HELP = `Creates an HS256 token for tests, and prints it. Tokens for people come from an identity provider.

Examples:
  export JWT_SECRET=$(openssl rand -base64 32)
  ROOMCAST_TOKEN=$(roomcast token --tenant tenant-1 --scope publish) roomcast publish …

Usage: roomcast token --tenant TENANT [options]

  --tenant ID      the tenant; may be repeated. '*' is for a service that publishes for all tenants or reads metrics; it
                   cannot listen
  --sub USER       the user id, which allows the room user:USER
  --scope SCOPE    subscribe, publish, signal, metrics or admin; may be repeated (default subscribe)
  --ticket ID      limits the token to this ticket; may be repeated
  --agreement ID   limits the token to this agreement; may be repeated
  --ids KIND=IDS   the ids of a kind that the bridge declares, comma-separated: queue=a,b sets the claim queueIds.
                   They limit the token if the kind is in ROOM_KINDS, and open rooms if it is in CLAIMED_ROOM_KINDS
  --expires TIME   30s, 15m, 1h, 7d (default 1h)
  --secret SECRET  signs the token (default: JWT_SECRET, which other users of this machine cannot see)

JWT_ISSUER and JWT_AUDIENCE become iss and aud, as a server with the same environment requires.

Exit codes: 0 success, 1 failure, 2 wrong usage.
`;

const SCOPES = ['subscribe', 'publish', 'signal', 'metrics', 'admin'];

const FLAGS = {
  tenant: { type: 'string', multiple: true },
  sub: { type: 'string' },
  scope: { type: 'string', multiple: true },
  ticket: { type: 'string', multiple: true },
  agreement: { type: 'string', multiple: true },
  ids: { type: 'string', multiple: true },
  expires: { type: 'string', default: '1h' },
  secret: { type: 'string' },
} as const;

export async function token(argv: readonly string[]): Promise<number> {
  const { values } = parseFlags('token', argv, FLAGS);
  const tenants = listOf(values.tenant);
  const scopes = listOf(values.scope ?? ['subscribe']).flatMap((text) => text.split(' '));
  if (tenants.length === 0) throw new UsageError('--tenant is required', 'token');
  if (tenants.includes('*') && tenants.length > 1) {
    throw new UsageError("--tenant '*' excludes other tenants", 'token');
  }
  checkNames('token', 'scope', scopes, SCOPES);
  const seconds = secondsOf('token', 'expires', values.expires);
  // The server's own rules for its secret, and its own error messages.
  const { JWT_ISSUER, JWT_AUDIENCE, JWT_SECRET } = process.env;
  const config = parseConfig({ JWT_SECRET: values.secret ?? JWT_SECRET, JWT_ISSUER, JWT_AUDIENCE });
  if (config.jwtSecret === null) throw new UsageError('set JWT_SECRET or --secret', 'token');

  const jwt = new SignJWT({
    tenantId: tenants.length === 1 ? tenants[0] : tenants,
    scope: scopes.join(' '),
    ...(values.sub === undefined ? {} : { sub: values.sub }),
    ...(values.ticket === undefined ? {} : { ticketIds: idsIn('token', 'ticket', values.ticket) }),
    ...(values.agreement === undefined ? {} : { agreementIds: idsIn('token', 'agreement', values.agreement) }),
    ...claimsOf(values.ids),
    ...(config.jwtIssuer === null ? {} : { iss: config.jwtIssuer }),
    ...(config.jwtAudience === null ? {} : { aud: config.jwtAudience }),
  });
  const text = await jwt
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt()
    .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
    .sign(Buffer.from(config.jwtSecret));
  await createTokenVerifier({ ...config, jwtPublicKey: null, jwksUrl: null })(text);

  complain('use this token for tests only; anyone who has it can use it until it expires');
  process.stdout.write(`${text}\n`);
  return 0;
}

/** `queue=a,b` and `queue=c` are the claim `queueIds` with three ids. */
function claimsOf(texts: readonly string[] | undefined): Readonly<Record<string, readonly string[]>> {
  const claims: Record<string, readonly string[]> = {};
  for (const text of texts ?? []) {
    const [, kind = '', ids = ''] = /^([^=]*)=(.*)$/.exec(text) ?? [];
    if (!isDeclarableKind(kind)) {
      throw new UsageError(
        `--ids must be a declared kind and its ids, such as queue=a,b, not ${JSON.stringify(text)}`,
        'token',
      );
    }
    const claim = idsClaim(kind);
    claims[claim] = [...(claims[claim] ?? []), ...idsIn('token', 'ids', [ids])];
  }
  return claims;
}

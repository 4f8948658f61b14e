/**
 * `roomcast token`: a token for tests, signed with the server's own secret, so that one can see what a tenant sees.
 * What it prints the server takes: it is checked as the server checks it before it is printed. Tokens of people come
 * from an identity provider (docs/security.md).
 */
import { SignJWT } from 'jose';
import { createTokenVerifier } from '../auth/tokens.ts';
import { parseConfig } from '../config.ts';
import { listOf, parseFlags, secondsOf, UsageError } from './arguments.ts';

export const TOKEN_HELP = `Mints an HS256 token for tests, and prints it. People's tokens come from an identity provider.

Usage: roomcast token --tenant TENANT [options]

  --tenant ID      whom it is for; may be repeated. '*': a service that publishes for all and listens to none
  --sub USER       the user id: whose user: room may be heard
  --scope SCOPE    subscribe, publish, admin; may be repeated (default subscribe)
  --ticket ID      narrows it to this ticket; may be repeated
  --agreement ID   narrows it to this agreement; may be repeated
  --expires TIME   30s, 15m, 1h, 7d (default 1h)
  --secret SECRET  what signs it (default: JWT_SECRET, which other users of the machine do not see)

JWT_ISSUER and JWT_AUDIENCE become its iss and aud, as the server with the same environment wants them.

Example: export JWT_SECRET=$(openssl rand -base64 32)
         ROOMCAST_TOKEN=$(roomcast token --tenant tenant-1 --scope publish) roomcast publish …
`;

const SCOPES = ['subscribe', 'publish', 'admin'];

const FLAGS = {
  tenant: { type: 'string', multiple: true },
  sub: { type: 'string' },
  scope: { type: 'string', multiple: true },
  ticket: { type: 'string', multiple: true },
  agreement: { type: 'string', multiple: true },
  expires: { type: 'string', default: '1h' },
  secret: { type: 'string' },
} as const;

export async function token(argv: readonly string[]): Promise<number> {
  const { values } = parseFlags('token', argv, FLAGS);
  const tenants = listOf(values.tenant);
  const scopes = listOf(values.scope ?? ['subscribe']).flatMap((text) => text.split(' '));
  if (tenants.length === 0) throw new UsageError('--tenant is missing', 'token');
  if (tenants.includes('*') && tenants.length > 1) throw new UsageError('--tenant takes * alone', 'token');
  const odd = scopes.find((scope) => !SCOPES.includes(scope));
  if (odd !== undefined) {
    throw new UsageError(`--scope got ${JSON.stringify(odd)}: it takes ${SCOPES.join(', ')}`, 'token');
  }
  const seconds = secondsOf('token', 'expires', values.expires);
  // The server's own rules for its secret, and its own words.
  const { JWT_ISSUER, JWT_AUDIENCE, JWT_SECRET } = process.env;
  const config = parseConfig({ JWT_SECRET: values.secret ?? JWT_SECRET, JWT_ISSUER, JWT_AUDIENCE });
  if (config.jwtSecret === null) throw new UsageError('neither JWT_SECRET nor --secret is set', 'token');

  const jwt = new SignJWT({
    tenantId: tenants.length === 1 ? tenants[0] : tenants,
    scope: scopes.join(' '),
    ...(values.sub === undefined ? {} : { sub: values.sub }),
    ...(values.ticket === undefined ? {} : { ticketIds: listOf(values.ticket) }),
    ...(values.agreement === undefined ? {} : { agreementIds: listOf(values.agreement) }),
    ...(config.jwtIssuer === null ? {} : { iss: config.jwtIssuer }),
    ...(config.jwtAudience === null ? {} : { aud: config.jwtAudience }),
  });
  const text = await jwt
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt()
    .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
    .sign(Buffer.from(config.jwtSecret));
  await createTokenVerifier({ ...config, jwtPublicKey: null, jwksUrl: null })(text);

  process.stderr.write('roomcast: this token is for tests; whoever has it may do what it says until it expires\n');
  process.stdout.write(`${text}\n`);
  return 0;
}

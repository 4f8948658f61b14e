/**
 * The text of JWT_PUBLIC_KEY: which keys it holds, and which algorithms each is for. One rule, for the check of the
 * settings and for the check of tokens.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';

export interface PublicKey {
  readonly key: KeyObject;
  readonly algorithms: readonly string[];
}

export const PUBLIC_KEYS_RULE =
  'the PEM text of an RSA (2048 bits or more), EC (P-256, P-384, P-521) or Ed25519 public key, or of several';

const RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const EDDSA = ['EdDSA', 'Ed25519'];
const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

/** What public keys are for, here and in a JWKS. */
export const PUBLIC_KEY_ALGORITHMS: readonly string[] = [...RSA, ...Object.values(CURVES), ...EDDSA];

/**
 * Public keys or certificates, several one after the other while keys are being rotated. Null when there is none, or
 * one that cannot be used. Environment files cannot hold line ends, so they are often written as \n.
 */
export function parsePublicKeys(text: string): readonly PublicKey[] | null {
  const blocks = text.replaceAll('\\n', '\n').match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]+?-----END \1-----/g) ?? [];
  const keys = blocks.map(parseBlock).filter((key) => key !== null);
  return keys.length === 0 || keys.length < blocks.length ? null : keys;
}

function parseBlock(pem: string): PublicKey | null {
  // Node would make the public key of it.
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) return null;
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    return null; // told by who asked: the parser's message may quote the text
  }
  const algorithms = algorithmsOf(key);
  return algorithms.length === 0 ? null : { key, algorithms };
}

/** Empty: nothing that this server takes. */
function algorithmsOf(key: KeyObject): readonly string[] {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return modulusLength >= 2048 ? RSA : [];
    case 'ec':
      return Object.hasOwn(CURVES, namedCurve) ? [CURVES[namedCurve] as string] : [];
    case 'ed25519':
      return EDDSA;
    default:
      return [];
  }
}

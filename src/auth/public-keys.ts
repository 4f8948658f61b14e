/**
 * Parses JWT_PUBLIC_KEY: the keys in its text, and the algorithms of each. The settings and the token verifier share
 * this one rule.
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

/** All algorithms of public keys, here and in a JWKS. */
export const PUBLIC_KEY_ALGORITHMS: readonly string[] = [...RSA, ...Object.values(CURVES), ...EDDSA];

/**
 * Parses one or more public keys or certificates (several while keys are rotated). Null if there is no key, or any key
 * is unusable. Environment files cannot hold line ends, so `\n` in the text counts as one.
 */
export function parsePublicKeys(text: string): readonly PublicKey[] | null {
  const blocks = text.replaceAll('\\n', '\n').match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]+?-----END \1-----/g) ?? [];
  const keys = blocks.map(parseBlock).filter((key) => key !== null);
  return keys.length === 0 || keys.length < blocks.length ? null : keys;
}

function parseBlock(pem: string): PublicKey | null {
  // Node would derive the public key from a private one.
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) return null;
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    return null; // The caller reports it. The parser's message may quote the key.
  }
  const algorithms = algorithmsOf(key);
  return algorithms.length === 0 ? null : { key, algorithms };
}

/** Empty: this server does not support the key. */
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

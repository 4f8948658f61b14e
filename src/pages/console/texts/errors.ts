/**
 * What went wrong, for readers of Portuguese: the bridge's own words, which stand beside it, are English. By the code of
 * the error (protocol §10, and those of `@roomcast/client`).
 */
import { language } from '../../language.ts';

const PORTUGUESE: ReadonlyMap<string, string> = new Map(
  Object.entries({
    invalid_request: 'A requisição não é válida.',
    unauthorized: 'É preciso um token válido.',
    token_expired: 'O token expirou.',
    token_revoked: 'O token foi revogado.',
    forbidden: 'O seu acesso não permite isto.',
    invalid_room: 'Isto não é um nome de sala.',
    too_many_rooms: 'Salas demais.',
    host_not_allowed: 'O servidor não atende por este nome de host.',
    invalid_body: 'O evento não tem o formato esperado.',
    unknown_event: 'O servidor não conhece este evento.',
    invalid_payload: 'O payload não tem o formato que o evento exige.',
    body_too_large: 'O evento é grande demais.',
    rate_limited: 'Requisições demais. Espere um instante.',
    internal: 'O servidor teve uma falha interna. O log dele traz mais detalhes.',
    unavailable: 'O servidor não consegue fazer isto no momento.',
    outcome_unknown: 'Não se sabe se o evento foi gravado.',
    too_many_connections: 'O servidor não aceita mais conexões.',
    unreachable: 'O servidor não responde.',
    timeout: 'O servidor demorou demais para responder.',
  }),
);

/** Null in English, and for a code without a sentence: the message stands alone. */
export function errorSentence(code: string): string | null {
  return language.current === 'pt' ? (PORTUGUESE.get(code) ?? null) : null;
}

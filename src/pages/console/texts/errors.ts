/** What went wrong, in the reader's language, by the code of the error (protocol §10). The bridge's own words stand beside it. */
import { defineTexts } from '../../language.ts';

const sentences = defineTexts(
  {
    invalid_request: 'The request is not valid.',
    unauthorized: 'A valid token is needed.',
    token_expired: 'The token has expired.',
    token_revoked: 'The token was revoked.',
    forbidden: 'This is not allowed with your access.',
    invalid_room: 'This is not the name of a room.',
    too_many_rooms: 'Too many rooms.',
    host_not_allowed: 'The server does not answer to this host name.',
    invalid_body: 'The event does not have the expected shape.',
    unknown_event: 'The server does not know this event.',
    invalid_payload: 'The payload does not have the shape that the event asks for.',
    body_too_large: 'The event is too large.',
    rate_limited: 'Too many requests. Wait a moment.',
    internal: 'The server has an internal fault. Its log says more.',
    unavailable: 'The server cannot do this at the moment.',
    outcome_unknown: 'It is not known whether the event was written.',
    too_many_connections: 'The server accepts no more connections.',
    unreachable: 'The server does not answer.',
    timeout: 'The server took too long to answer.',
  },
  {
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
  },
);

/** Null for a code without a sentence: the bridge's message stands alone. */
export function errorSentence(code: string): string | null {
  const known = sentences();
  return Object.hasOwn(known, code) ? known[code as keyof typeof known] : null;
}

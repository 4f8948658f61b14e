/** Texts of Find. Its readers help customers: they know what a ticket is, and need not know what a socket is. */
import { defineTexts, language } from '../../language.ts';
import type { Hint, NextCode, TokenFinding, Verdict, VerdictCode } from '../diagnosis.ts';
import { bytes, count, duration, relativeTime, TRANSPORT_LABELS } from '../format.ts';

type Of<Code extends VerdictCode> = Extract<Verdict, { code: Code }>;
type HintOf<Code extends Hint['code']> = Extract<Hint, { code: Code }>;
type FindingOf<Code extends TokenFinding['code']> = Extract<TokenFinding, { code: Code }>;
type Refused = Of<'refused'>['refusal'];

const seconds = (ms: number): string => duration(ms / 1000);
/** Within a sentence: Portuguese abbreviates with a full stop. */
const fromNow = (atMs: number): string => relativeTime(atMs, Date.now()).replace(/\.$/, '');
const ago = (at: string): string => fromNow(Date.parse(at));
const over = (transports: readonly (keyof typeof TRANSPORT_LABELS)[], and: string): string =>
  transports.map((one) => TRANSPORT_LABELS[one]).join(` ${and} `);

/** Why, in words for people; a code without words has the message of the bridge. */
const reasonEn = ({ code, message, tenantIds }: Refused): string =>
  ({
    token_expired: 'the token has expired',
    token_revoked: 'the token was revoked',
    unauthorized: 'the token is missing or not valid',
    forbidden: `the token${tenantIds.length === 0 ? '' : ` for ${tenantIds.join(', ')}`} does not allow it`,
    invalid_room: 'this is not the name of a room',
    rate_limited: 'too many requests',
    too_many_connections: 'too many connections',
    too_many_rooms: 'too many rooms',
    host_not_allowed: 'the bridge does not answer to this host name',
    unavailable: 'the bridge was not available',
  })[code as string] ?? message.replace(/[.?!]+$/, '');

const reasonPt = ({ code, message, tenantIds }: Refused): string =>
  ({
    token_expired: 'o token expirou',
    token_revoked: 'o token foi revogado',
    unauthorized: 'o token está ausente ou é inválido',
    forbidden: `o token${tenantIds.length === 0 ? '' : ` de ${tenantIds.join(', ')}`} não permite`,
    invalid_room: 'esse não é um nome de sala',
    rate_limited: 'requisições demais',
    too_many_connections: 'conexões demais',
    too_many_rooms: 'salas demais',
    host_not_allowed: 'o servidor não atende por esse nome de host',
    unavailable: 'o servidor não estava disponível',
  })[code as string] ?? message.replace(/[.?!]+$/, '');

export const findTexts = defineTexts(
  {
    label: 'User, ticket, address or connection',
    placeholder: 'User, ticket, address or connection',
    hint: 'For one user and one ticket, enter both: ana ticket:5. You can also paste a token: only this page reads it.',
    action: 'Find',
    startTitle: 'Why does this user see nothing?',
    start: 'Enter what you know of the person. The page shows whether they are connected, and what is in the way.',
    examples: 'For example',
    searching: 'Searching…',
    updated: (secondsAgo: number) => (secondsAgo < 2 ? 'Updated just now' : `Updated ${secondsAgo} s ago`),
    meant: 'Meaning',
    kinds: { user: 'User', tenant: 'Tenant', room: 'Room', address: 'Address', connection: 'Connection' },
    people: (people: number) => (people === 1 ? '1 result' : `${count(people)} results`),
    unknownUser: 'Unknown user',
    connectionsOf: (connections: number) => (connections === 1 ? '1 connection' : `${count(connections)} connections`),
    more: 'Show more',
    first: (shown: number) => `Only the first ${count(shown)} connections are shown. Search for a user or an address.`,
    nobody: 'Nobody found',
    next: 'What to do',
    alsoSeen: 'Also seen',
    connections: 'Connections',
    connection: 'Connection',
    refusals: 'Refused attempts',
    strangers: 'Refused attempts of unknown users',
    strangersNote: 'The bridge knows a user only by a token with a good signature. One of these may be the person.',
    missRoom: 'Which room do they miss?',
    missHint: 'For example ticket:5',
    missAction: 'Explain',
    facts: {
      transport: 'Transport',
      since: 'Connected',
      behind: 'Behind',
      upToDate: 'up to date',
      unread: 'Unread',
      lastDelivery: 'Last delivery',
      noDelivery: 'none yet',
      lastRefusal: 'Last refusal',
      none: 'none',
      address: 'Address',
      device: 'Program',
      tenants: 'Tenants',
      allTenants: 'all',
      expires: 'Token expires',
      node: 'Node',
      rooms: (rooms: number) => `Rooms (${count(rooms)})`,
      moreRooms: (rooms: number) => `and ${count(rooms)} more`,
      id: 'Id',
      cursor: 'Cursor',
    },
    columns: { when: 'When', what: 'What', why: 'Why', from: 'From' },
    openLog: (room: string) => `Log of ${room}`,
    noEventsInLog: 'no event in the log',
    roomTitle: (room: string) => `Room ${room}`,
    roomLast: (event: string, at: string) => `Its newest event is ${event}, accepted ${ago(at)}.`,
    roomQuiet: 'The log has no event for this room.',
    roomHeard: (listeners: number, hasMore: boolean) =>
      listeners === 0
        ? 'Nobody hears it now.'
        : listeners === 1
          ? '1 connection hears it.'
          : `${hasMore ? 'More than ' : ''}${count(listeners)} connections hear it.`,
    didYouMean: 'Did you mean',
    disconnect: (connections: number) => (connections === 1 ? 'Disconnect' : `Disconnect all ${count(connections)}`),
    disconnectTitle: (who: string) => `Disconnect ${who}?`,
    disconnectText: (connections: number) =>
      `This closes ${connections === 1 ? 'one connection' : `${count(connections)} connections`}. Applications connect again by themselves within seconds, and receive what they missed. To keep somebody out, revoke their tokens.`,
    disconnected: (closed: number) =>
      closed === 1 ? '1 connection was closed.' : `${count(closed)} connections were closed.`,
    revoke: 'Revoke tokens',
    revokeTitle: (who: string) => `Revoke the tokens of ${who}?`,
    revokeText: (who: string) =>
      `Within a second, every token of ${who} that was issued until now is refused, and its connections are closed. The person must sign in again: a token that is issued later is accepted.`,
    revokeTenant: 'Only for the tenant',
    revokeAllTenants: 'all tenants',
    revokeTenantText: (tenant: string) => `Tokens for other tenants keep those. This affects ${tenant} only.`,
    revoked: 'The tokens are revoked.',
    lift: 'Lift the revocation',
    liftTitle: 'Lift this revocation?',
    liftText: 'The tokens that it refused are accepted again, if they have not expired.',
    lifted: 'The revocation is lifted.',
    failed: (what: string) => `This did not work. ${what}`,
    checkTitle: 'Connection check for this person',
    checkNote: 'Send this link. The page tests their network in half a minute and gives them a report to send back.',
    checkCopy: 'Copy link',
    checkLanguage: 'Language',
    forbiddenTitle: 'This token may not look',
    forbidden:
      'Find needs a token with the scope admin, without claims such as ticketIds. Use one for your tenant, or one for all tenants.',
    unauthorized: 'Find needs a token. Enter one above.',
    openMode: 'Without tokens (AUTH_MODE=none), Find works only if HOST is a loopback address.',
    reach: (tenants: string) =>
      `This token sees the tenant ${tenants} only. Connections and refusals of others, and of bad tokens, are not shown.`,
    missing: (nodes: string) => `These nodes did not answer: ${nodes}. The person may be connected there.`,
    stale: 'The server does not answer. This is what it said last.',
    faults: {
      draining: 'This node is shutting down',
      drainingText: 'Its clients move to other nodes. If there is no other node, nobody gets events.',
      redisAway: 'Redis does not answer',
      redisAwayText:
        'Nobody gets new events, and publishers get errors. This explains what every user sees. Check Redis and the way to it.',
      logFull: 'The log takes no writes',
      logFullText:
        'Nobody gets new events, and publishers get errors. This explains what every user sees. The usual cause is a full disk, or a Redis without memory: free space first.',
      logAway: 'The log does not answer',
      logAwayText: 'New events and replays wait. Look at the disk of the server, or at Redis.',
    },
    token: {
      title: 'The pasted token',
      unreadable: 'This looks like a token, but its claims cannot be read. Copy it again, whole.',
      notKept: 'It was read in this page only: not sent, not stored. The page cannot check its signature.',
      subject: 'User',
      noSubject: 'none: the token has no claim sub',
      tenants: 'Tenants',
      scopes: 'Scopes',
      defaultScope: 'none of its own; JWT_DEFAULT_SCOPE applies',
      hears: 'May hear',
      hearsNothing: 'nothing',
      hearsTenant: (tenant: string) => `all rooms of the tenant ${tenant}`,
      hearsOnly: (rooms: string) => `only ${rooms}`,
      expires: 'Expires',
      never: 'never',
      findings: {
        expired: ({ atMs }: FindingOf<'expired'>) => `The token expired ${fromNow(atMs)}. It is refused.`,
        notYet: ({ atMs }: FindingOf<'notYet'>) =>
          `The token becomes valid ${fromNow(atMs)}. Until then it is refused. Compare the clocks.`,
        forAllTenants: (_: FindingOf<'forAllTenants'>) =>
          'A token for all tenants (tenantId "*") publishes, but cannot listen.',
        noTenant: (_: FindingOf<'noTenant'>) => 'The token names no tenant (claim tenantId). It may hear nothing.',
        noSubscribe: (_: FindingOf<'noSubscribe'>) => 'The token lacks the scope subscribe. It may hear nothing.',
        noScope: (_: FindingOf<'noScope'>) =>
          'The token has no claim scope. It may hear nothing, unless JWT_DEFAULT_SCOPE has subscribe.',
        narrowed: ({ claims, rooms }: FindingOf<'narrowed'>) =>
          `The token is narrowed by ${claims.join(' and ')}: it hears ${rooms.length === 0 ? 'no room' : `only ${rooms.slice(0, 5).join(', ')}`}, and not the rest of its tenant.`,
        cannotHear: ({ room }: FindingOf<'cannotHear'>) => `The token may not hear ${room}: its claims do not name it.`,
        otherTenant: ({ tenantId, room }: FindingOf<'otherTenant'>) =>
          `The events of ${room} belong to the tenant ${tenantId}. The token does not name this tenant.`,
        fine: (_: FindingOf<'fine'>) =>
          'Its claims allow listening now. Whether its signature is good, only the bridge can say.',
      },
    },
    verdicts: {
      upToDate: ({ transports, rooms }: Of<'upToDate'>) =>
        `Connected by ${over(transports, 'and')}, up to date in ${rooms === 1 ? '1 room' : `${count(rooms)} rooms`}.`,
      hears: ({ room, last, transports }: Of<'hears'>) =>
        `Connected by ${over(transports, 'and')}, and it hears ${room}, whose newest event was accepted ${ago(last.at)}.`,
      noEvents: ({ room }: Of<'noEvents'>) =>
        `It hears ${room}, but the log has no event for this room: none was published.`,
      quietRooms: ({ rooms }: Of<'quietRooms'>) =>
        `Connected, but no event has gone to ${rooms.length === 1 ? `its room ${rooms[0]}` : `any of its ${count(rooms.length)} rooms`} as far as the log goes.`,
      pollOnly: (_: Of<'pollOnly'>) =>
        'Connected by long polling only: its network seems to block WebSockets and SSE. Events arrive with a delay.',
      pollingOnly: (_: Of<'pollingOnly'>) =>
        'Connected by Socket.IO polling only: its network seems to block WebSockets.',
      behind: ({ behindMs, pendingBytes }: Of<'behind'>) =>
        `Connected, but ${seconds(behindMs)} behind: ${bytes(pendingBytes)} wait, because its network or device does not take them.`,
      noRooms: ({ transports }: Of<'noRooms'>) =>
        `Connected by ${over(transports, 'and')}, but in no room: it can hear nothing.`,
      joinRefused: ({ room, refusal, meant }: Of<'joinRefused'>) =>
        `Connected, but it may not join ${room}: ${reasonEn(refusal)}.${meant === null ? '' : ` Its room ${meant} has a similar name.`}`,
      notInRoom: ({ room, instead }: Of<'notInRoom'>) =>
        `Connected, but in no room that hears ${room}${instead === null ? '' : `; it asked for ${instead}`}.`,
      otherTenant: ({ own, tenantId, room }: Of<'otherTenant'>) =>
        `The events of ${room} belong to the tenant ${tenantId}, but its token is for ${own.join(', ')}.`,
      refused: ({ times, withinMs, refusal }: Of<'refused'>) =>
        `Refused ${times === 1 ? 'once' : `${count(times)} times`} in the last ${withinMs === 60_000 ? 'minute' : `${Math.round(withinMs / 60_000)} minutes`}: ${reasonEn(refusal)}.`,
      refusedEarlier: ({ refusal }: Of<'refusedEarlier'>) =>
        `Not connected. Last refused ${ago(refusal.at)}: ${reasonEn(refusal)}.`,
      revoked: ({ revocation }: Of<'revoked'>) =>
        `Not connected. The tokens of this user were revoked ${ago(revocation.createdAt)}.`,
      gone: ({ lastSeenAt }: Of<'gone'>) =>
        `Not connected now. Last seen ${ago(lastSeenAt)}, when a request was refused.`,
      absentOrMissing: ({ nodes }: Of<'absentOrMissing'>) =>
        `Not found, but ${nodes.length === 1 ? 'one node' : `${count(nodes.length)} nodes`} did not answer. The person may be there.`,
      absent: (_: Of<'absent'>) =>
        'Nobody with this name is connected, and none was refused as far as the bridge remembers.',
    },
    hints: {
      sseHeld: (_: HintOf<'sseHeld'>) =>
        'The bridge has written everything to an SSE stream. If nothing arrives, a proxy or virus scanner on the way holds the stream back. An application with @roomcast/client uses SSE only where WebSockets are blocked. The connection check shows both.',
      ownTenantToo: ({ last, room }: HintOf<'ownTenantToo'>) =>
        `Its own tenant has a ${room}, too, which it hears: the newest event there was accepted ${ago(last.at)}. Is it the right one?`,
      lastWent: ({ last, room }: HintOf<'lastWent'>) =>
        `The newest event of ${room} went to ${last.rooms.join(', ')}. This user has joined none of these.`,
      alsoRefused: ({ times, refusal }: HintOf<'alsoRefused'>) =>
        `${times === 1 ? 'One other attempt' : `${count(times)} other attempts`} to connect failed, last ${ago(refusal.at)}: ${reasonEn(refusal)}. Perhaps another tab or device.`,
      alsoJoinRefused: ({ room, refusal }: HintOf<'alsoJoinRefused'>) =>
        `It may not join ${room}: ${reasonEn(refusal)}.`,
      publishRefused: ({ refusal }: HintOf<'publishRefused'>) =>
        `A request to publish was refused ${ago(refusal.at)}: ${reasonEn(refusal)}.`,
      quietRoom: ({ room }: HintOf<'quietRoom'>) =>
        `No event has gone to ${room} as far as the log goes. Is the name right?`,
      expiresSoon: ({ inMs }: HintOf<'expiresSoon'>) =>
        `Its token expires in ${seconds(inMs)}. Then the connection is closed, unless the application has a new one.`,
      revoked: ({ revocation }: HintOf<'revoked'>) =>
        `Older tokens of this user were revoked ${ago(revocation.createdAt)}.`,
    },
    nextSteps: {
      sendCheck: 'Send the connection check below. Its report names what blocks the network.',
      askRoom: 'Ask which ticket they miss, and enter it below: the page says whether they can hear it.',
      newToken:
        'Let the person reload the application or sign in again. If it repeats, the application does not renew its token in time, or a clock is wrong.',
      signInAgain:
        'The person must sign in again; a token that is issued now is accepted. Was the revocation a mistake? Lift it below.',
      checkKey:
        'Ask the developers: is the token sent at all, and is it signed with the key, issuer and audience that the bridge expects?',
      checkClaims:
        'The token is for another tenant, or limited to some rooms: compare its claims (tenantId, ticketIds, scope) with the room that it asks for.',
      pasteToken: 'Paste the token into the field above. The page reads its claims and says what it may hear.',
      fixRoomName:
        'Correct the name of the room in the application. Names are case-sensitive: ticket:5 is not Ticket:5.',
      joinRoom: 'The application must join the room after each connect. Tell its developers which room is missing.',
      checkTenant:
        'Check that the person is signed in to the right tenant, and that the publisher sets the right tenantId.',
      askPublisher:
        'Look at the publisher: no event for this room reached the log. Look into the log for its other events.',
      lookInApp: 'Is the application open, and does it use this server? Let the person reload it, and watch this page.',
      waitForSlow:
        'Nothing is lost: what waits is sent as the network takes it. Past the limit, the connection is cut and resumes.',
      raiseLimit: 'A limit of the bridge was reached (RATE_…, MAX_…). The message beside the attempt names it.',
      checkHost: 'Add the host name to ALLOWED_HOSTS, or use the right address.',
      readMessage: 'The message beside the attempt says what is wrong.',
      askAddress: 'Ask for the name as the application signs it (the claim sub), or search for their IP address.',
      checkNodes: 'Look at the nodes that did not answer, then search again.',
    } satisfies Record<NextCode, string>,
    none: '–',
  },
  {
    label: 'Usuário, ticket, endereço ou conexão',
    placeholder: 'Usuário, ticket, endereço ou conexão',
    hint: 'Para um usuário e um ticket, informe os dois: ana ticket:5. Você também pode colar um token: só esta página o lê.',
    action: 'Buscar',
    startTitle: 'Por que este usuário não vê nada?',
    start: 'Informe o que você sabe da pessoa. A página mostra se ela está conectada e o que está no caminho.',
    examples: 'Por exemplo',
    searching: 'Buscando…',
    updated: (secondsAgo) => (secondsAgo < 2 ? 'Atualizado agora' : `Atualizado há ${secondsAgo} s`),
    meant: 'Significado',
    kinds: { user: 'Usuário', tenant: 'Tenant', room: 'Sala', address: 'Endereço', connection: 'Conexão' },
    people: (people) => (people === 1 ? '1 resultado' : `${count(people)} resultados`),
    unknownUser: 'Usuário desconhecido',
    connectionsOf: (connections) => (connections === 1 ? '1 conexão' : `${count(connections)} conexões`),
    more: 'Mostrar mais',
    first: (shown) => `Só as primeiras ${count(shown)} conexões aparecem. Busque um usuário ou um endereço.`,
    nobody: 'Ninguém encontrado',
    next: 'O que fazer',
    alsoSeen: 'Também observado',
    connections: 'Conexões',
    connection: 'Conexão',
    refusals: 'Tentativas recusadas',
    strangers: 'Tentativas recusadas de usuários desconhecidos',
    strangersNote: 'O servidor só conhece o usuário por um token com assinatura válida. Uma destas pode ser a pessoa.',
    missRoom: 'Qual sala está faltando?',
    missHint: 'Por exemplo ticket:5',
    missAction: 'Explicar',
    facts: {
      transport: 'Transporte',
      since: 'Conectado',
      behind: 'Atraso',
      upToDate: 'em dia',
      unread: 'Não lido',
      lastDelivery: 'Última entrega',
      noDelivery: 'nenhuma ainda',
      lastRefusal: 'Última recusa',
      none: 'nenhuma',
      address: 'Endereço',
      device: 'Programa',
      tenants: 'Tenants',
      allTenants: 'todos',
      expires: 'Token expira',
      node: 'Nó',
      rooms: (rooms) => `Salas (${count(rooms)})`,
      moreRooms: (rooms) => `e mais ${count(rooms)}`,
      id: 'Id',
      cursor: 'Cursor',
    },
    columns: { when: 'Quando', what: 'O quê', why: 'Por quê', from: 'De' },
    openLog: (room) => `Registro de ${room}`,
    noEventsInLog: 'nenhum evento no log',
    roomTitle: (room) => `Sala ${room}`,
    roomLast: (event, at) => `O evento mais recente é ${event}, aceito ${ago(at)}.`,
    roomQuiet: 'O log não tem nenhum evento desta sala.',
    roomHeard: (listeners, hasMore) =>
      listeners === 0
        ? 'Ninguém a ouve agora.'
        : listeners === 1
          ? '1 conexão a ouve.'
          : `${hasMore ? 'Mais de ' : ''}${count(listeners)} conexões a ouvem.`,
    didYouMean: 'Você quis dizer',
    disconnect: (connections) => (connections === 1 ? 'Desconectar' : `Desconectar todas as ${count(connections)}`),
    disconnectTitle: (who) => `Desconectar ${who}?`,
    disconnectText: (connections) =>
      `Isto fecha ${connections === 1 ? 'uma conexão' : `${count(connections)} conexões`}. Os aplicativos se reconectam sozinhos em segundos e recebem o que perderam. Para manter alguém fora, revogue os tokens.`,
    disconnected: (closed) => (closed === 1 ? '1 conexão foi fechada.' : `${count(closed)} conexões foram fechadas.`),
    revoke: 'Revogar tokens',
    revokeTitle: (who) => `Revogar os tokens de ${who}?`,
    revokeText: (who) =>
      `Em um segundo, todo token de ${who} emitido até agora é recusado e suas conexões são fechadas. A pessoa precisa entrar de novo: um token emitido depois é aceito.`,
    revokeTenant: 'Só para o tenant',
    revokeAllTenants: 'todos os tenants',
    revokeTenantText: (tenant) => `Tokens de outros tenants continuam valendo neles. Isto afeta só ${tenant}.`,
    revoked: 'Os tokens foram revogados.',
    lift: 'Desfazer a revogação',
    liftTitle: 'Desfazer esta revogação?',
    liftText: 'Os tokens que ela recusava voltam a ser aceitos, se não expiraram.',
    lifted: 'A revogação foi desfeita.',
    failed: (what) => `Não deu certo. ${what}`,
    checkTitle: 'Teste de conexão para esta pessoa',
    checkNote: 'Envie este link. A página testa a rede dela em meio minuto e gera um relatório para ela devolver.',
    checkCopy: 'Copiar link',
    checkLanguage: 'Idioma',
    forbiddenTitle: 'Este token não permite a busca',
    forbidden:
      'Buscar exige um token com o escopo admin, sem claims como ticketIds. Use um do seu tenant, ou um de todos os tenants.',
    unauthorized: 'Buscar exige um token. Informe um acima.',
    openMode: 'Sem tokens (AUTH_MODE=none), Buscar só funciona se HOST for um endereço de loopback.',
    reach: (tenants) =>
      `Este token vê só o tenant ${tenants}. Conexões e recusas de outros, e de tokens inválidos, não aparecem.`,
    missing: (nodes) => `Estes nós não responderam: ${nodes}. A pessoa pode estar conectada a eles.`,
    stale: 'O servidor não responde. Isto é o que ele disse por último.',
    faults: {
      draining: 'Este nó está sendo desligado',
      drainingText: 'Seus clientes passam para outros nós. Se não houver outro, ninguém recebe eventos.',
      redisAway: 'O Redis não responde',
      redisAwayText:
        'Ninguém recebe eventos novos, e quem publica recebe erros. Isto explica o que todo usuário vê. Verifique o Redis e o caminho até ele.',
      logFull: 'O log não aceita gravações',
      logFullText:
        'Ninguém recebe eventos novos, e quem publica recebe erros. Isto explica o que todo usuário vê. A causa comum é disco cheio, ou Redis sem memória: primeiro libere espaço.',
      logAway: 'O log não responde',
      logAwayText: 'Eventos novos e replays esperam. Verifique o disco do servidor ou o Redis.',
    },
    token: {
      title: 'O token colado',
      unreadable: 'Isto parece um token, mas não dá para ler suas claims. Copie de novo, inteiro.',
      notKept:
        'Ele foi lido só nesta página: não foi enviado nem guardado. A página não consegue verificar a assinatura.',
      subject: 'Usuário',
      noSubject: 'nenhum: o token não tem a claim sub',
      tenants: 'Tenants',
      scopes: 'Escopos',
      defaultScope: 'nenhum próprio; vale JWT_DEFAULT_SCOPE',
      hears: 'Pode ouvir',
      hearsNothing: 'nada',
      hearsTenant: (tenant) => `todas as salas do tenant ${tenant}`,
      hearsOnly: (rooms) => `só ${rooms}`,
      expires: 'Expira',
      never: 'nunca',
      findings: {
        expired: ({ atMs }) => `O token expirou ${fromNow(atMs)}. Ele é recusado.`,
        notYet: ({ atMs }) => `O token passa a valer ${fromNow(atMs)}. Até lá é recusado. Compare os relógios.`,
        forAllTenants: () => 'Um token de todos os tenants (tenantId "*") publica, mas não pode ouvir.',
        noTenant: () => 'O token não indica nenhum tenant (claim tenantId). Ele não pode ouvir nada.',
        noSubscribe: () => 'Falta ao token o escopo subscribe. Ele não pode ouvir nada.',
        noScope: () =>
          'O token não tem a claim scope. Ele não pode ouvir nada, a não ser que JWT_DEFAULT_SCOPE tenha subscribe.',
        narrowed: ({ claims, rooms }) =>
          `O token é restrito por ${claims.join(' e ')}: ouve ${rooms.length === 0 ? 'nenhuma sala' : `só ${rooms.slice(0, 5).join(', ')}`}, e não o resto do tenant.`,
        cannotHear: ({ room }) => `O token não pode ouvir ${room}: suas claims não a citam.`,
        otherTenant: ({ tenantId, room }) =>
          `Os eventos de ${room} pertencem ao tenant ${tenantId}. O token não indica esse tenant.`,
        fine: () => 'As claims permitem ouvir agora. Se a assinatura é válida, só o servidor pode dizer.',
      },
    },
    verdicts: {
      upToDate: ({ transports, rooms }) =>
        `Conectado por ${over(transports, 'e')}, em dia em ${rooms === 1 ? '1 sala' : `${count(rooms)} salas`}.`,
      hears: ({ room, last, transports }) =>
        `Conectado por ${over(transports, 'e')} e ouve ${room}, cujo evento mais recente foi aceito ${ago(last.at)}.`,
      noEvents: ({ room }) => `Ouve ${room}, mas o log não tem nenhum evento desta sala: nada foi publicado.`,
      quietRooms: ({ rooms }) =>
        `Conectado, mas nenhum evento foi para ${rooms.length === 1 ? `a sua sala ${rooms[0]}` : `nenhuma das suas ${count(rooms.length)} salas`} até onde vai o log.`,
      pollOnly: () =>
        'Conectado só por long polling: a rede parece bloquear WebSockets e SSE. Os eventos chegam com atraso.',
      pollingOnly: () => 'Conectado só por polling do Socket.IO: a rede parece bloquear WebSockets.',
      behind: ({ behindMs, pendingBytes }) =>
        `Conectado, mas com ${seconds(behindMs)} de atraso: ${bytes(pendingBytes)} esperam, porque a rede ou o dispositivo não os recebe.`,
      noRooms: ({ transports }) => `Conectado por ${over(transports, 'e')}, mas em nenhuma sala: não ouve nada.`,
      joinRefused: ({ room, refusal, meant }) =>
        `Conectado, mas não pode entrar em ${room}: ${reasonPt(refusal)}.${meant === null ? '' : ` A sala ${meant}, em que está, tem nome parecido.`}`,
      notInRoom: ({ room, instead }) =>
        `Conectado, mas em nenhuma sala que ouve ${room}${instead === null ? '' : `; pediu ${instead}`}.`,
      otherTenant: ({ own, tenantId, room }) =>
        `Os eventos de ${room} pertencem ao tenant ${tenantId}, mas o token é de ${own.join(', ')}.`,
      refused: ({ times, withinMs, refusal }) =>
        `Recusado ${times === 1 ? 'uma vez' : `${count(times)} vezes`} ${withinMs === 60_000 ? 'no último minuto' : `nos últimos ${Math.round(withinMs / 60_000)} minutos`}: ${reasonPt(refusal)}.`,
      refusedEarlier: ({ refusal }) => `Não está conectado. Última recusa ${ago(refusal.at)}: ${reasonPt(refusal)}.`,
      revoked: ({ revocation }) =>
        `Não está conectado. Os tokens deste usuário foram revogados ${ago(revocation.createdAt)}.`,
      gone: ({ lastSeenAt }) =>
        `Não está conectado agora. Visto pela última vez ${ago(lastSeenAt)}, quando uma requisição foi recusada.`,
      absentOrMissing: ({ nodes }) =>
        `Não encontrado, mas ${nodes.length === 1 ? 'um nó não respondeu' : `${count(nodes.length)} nós não responderam`}. A pessoa pode estar lá.`,
      absent: () => 'Ninguém com este nome está conectado, e ninguém foi recusado até onde o servidor se lembra.',
    },
    hints: {
      sseHeld: () =>
        'O servidor já escreveu tudo em um stream SSE. Se nada chega, um proxy ou antivírus no caminho segura o stream. Um aplicativo com @roomcast/client só usa SSE onde WebSockets são bloqueados. O teste de conexão mostra os dois casos.',
      ownTenantToo: ({ last, room }) =>
        `O próprio tenant também tem ${room}, que a pessoa ouve: o evento mais recente ali foi aceito ${ago(last.at)}. É a sala certa?`,
      lastWent: ({ last, room }) =>
        `O evento mais recente de ${room} foi para ${last.rooms.join(', ')}. Este usuário não entrou em nenhuma delas.`,
      alsoRefused: ({ times, refusal }) =>
        `${times === 1 ? 'Outra tentativa de conexão falhou' : `${count(times)} outras tentativas de conexão falharam`}, a última ${ago(refusal.at)}: ${reasonPt(refusal)}. Talvez outra aba ou dispositivo.`,
      alsoJoinRefused: ({ room, refusal }) => `Não pode entrar em ${room}: ${reasonPt(refusal)}.`,
      publishRefused: ({ refusal }) => `Uma publicação foi recusada ${ago(refusal.at)}: ${reasonPt(refusal)}.`,
      quietRoom: ({ room }) => `Nenhum evento foi para ${room} até onde vai o log. O nome está certo?`,
      expiresSoon: ({ inMs }) =>
        `O token expira em ${seconds(inMs)}. Depois a conexão é fechada, a não ser que o aplicativo tenha um novo.`,
      revoked: ({ revocation }) => `Tokens mais antigos deste usuário foram revogados ${ago(revocation.createdAt)}.`,
    },
    nextSteps: {
      sendCheck: 'Envie o teste de conexão abaixo. O relatório diz o que bloqueia a rede.',
      askRoom: 'Pergunte qual ticket está faltando e informe-o abaixo: a página diz se a pessoa pode ouvi-lo.',
      newToken:
        'Peça para a pessoa recarregar o aplicativo ou entrar de novo. Se repetir, o aplicativo não renova o token a tempo, ou um relógio está errado.',
      signInAgain:
        'A pessoa precisa entrar de novo; um token emitido agora é aceito. A revogação foi um engano? Desfaça-a abaixo.',
      checkKey:
        'Pergunte aos desenvolvedores: o token é mesmo enviado, e está assinado com a chave, o emissor e a audiência que o servidor espera?',
      checkClaims:
        'O token é de outro tenant, ou restrito a algumas salas: compare as claims (tenantId, ticketIds, scope) com a sala que ele pede.',
      pasteToken: 'Cole o token no campo acima. A página lê as claims e diz o que ele pode ouvir.',
      fixRoomName: 'Corrija o nome da sala no aplicativo. Maiúsculas contam: ticket:5 não é Ticket:5.',
      joinRoom: 'O aplicativo precisa entrar na sala depois de cada conexão. Diga aos desenvolvedores qual sala falta.',
      checkTenant: 'Verifique se a pessoa entrou no tenant certo e se quem publica informa o tenantId certo.',
      askPublisher: 'Verifique quem publica: nenhum evento desta sala chegou ao log. Procure no log os outros eventos.',
      lookInApp: 'O aplicativo está aberto e usa este servidor? Peça para a pessoa recarregar e observe esta página.',
      waitForSlow:
        'Nada se perde: o que espera é enviado conforme a rede recebe. Acima do limite, a conexão é cortada e retomada.',
      raiseLimit: 'Um limite do servidor foi atingido (RATE_…, MAX_…). A mensagem ao lado da tentativa diz qual.',
      checkHost: 'Adicione o nome do host a ALLOWED_HOSTS, ou use o endereço certo.',
      readMessage: 'A mensagem ao lado da tentativa diz o que está errado.',
      askAddress: 'Pergunte o nome como o aplicativo o assina (a claim sub), ou busque o endereço IP da pessoa.',
      checkNodes: 'Verifique os nós que não responderam e busque de novo.',
    },
    none: '–',
  },
);

/** The text of a code, for a value that may have any. */
const textOf = <Value extends { readonly code: string }>(
  texts: Readonly<Record<Value['code'], unknown>>,
  value: Value,
): string => (texts[value.code as Value['code']] as (value: Value) => string)(value);

export const verdictText = (verdict: Verdict): string => textOf(findTexts().verdicts, verdict);
export const hintText = (hint: Hint): string => textOf(findTexts().hints, hint);
export const findingText = (finding: TokenFinding): string => textOf(findTexts().token.findings, finding);
export const reasonText = (refusal: Refused): string => (language.current === 'pt' ? reasonPt : reasonEn)(refusal);

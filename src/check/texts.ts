/**
 * All texts of the connection check, in English and Portuguese, for the page and for `roomcast check`. `{name}` is
 * replaced by a value. The readers help customers; they need not know networks.
 */
import type { TransportName as ClientTransport } from '../client/events.ts';
import type { TransportName } from '../contract/names.ts';
import type { Cause, CauseCode, ProxyName } from './causes.ts';
import type { FaultKind } from './result.ts';
import type { AdviceCode, Level, Message, NoteCode, Outcome, Values, Verdict, VerdictCode } from './verdict.ts';

export const LANGUAGES = ['en', 'pt'] as const;
export type Language = (typeof LANGUAGES)[number];

/** The advice says what to ask the network's administrator. */
type TheirCause = 'upgradeDroppedOnTheWay';

/** The compiler checks that every code has its text. */
interface TextsByCode {
  readonly levels: Readonly<Record<Level, string>>;
  readonly clientTransports: Readonly<Record<ClientTransport, string>>;
  readonly transports: Readonly<Record<TransportName, string>>;
  readonly about: Readonly<Record<TransportName, string>>;
  readonly outcomes: Readonly<Record<Outcome, string>>;
  readonly faults: Readonly<Record<FaultKind, string>>;
  readonly verdicts: Readonly<Record<VerdictCode, string>>;
  readonly proxies: Readonly<Record<ProxyName, string>>;
  readonly causes: Readonly<Record<CauseCode, string>>;
  readonly fixes: Readonly<Record<Exclude<CauseCode, TheirCause>, string>>;
  readonly advice: Readonly<Record<AdviceCode, string>>;
  readonly notes: Readonly<Record<NoteCode, string>>;
}

const en = {
  title: 'Connection check',
  intro:
    'Checks whether live updates reach this device through its current network. It takes about half a minute and reads no customer data.',
  again: 'Run again',
  language: 'Language',
  running: 'Checking…',
  contacting: 'Contacting the server…',
  testing: 'Testing each transport…',
  watching: 'Checking that quiet connections stay open.',
  timeLeft: '{seconds} s to go.',
  tested: 'Transports tested',
  usedHere: 'used here',
  adviceForNetwork: 'What to ask the network administrator',
  adviceForReader: 'What to do',
  notesTitle: 'Also seen',
  report: 'Report for support',
  reportHint: 'Plain text to send to support. It contains no passwords, tokens or customer data.',
  copy: 'Copy the report',
  copied: 'Copied.',
  notCopied: 'Could not copy. The report is selected: copy it by hand.',
  waiting: 'waiting',
  nothingArrived: 'No update arrived this way.',
  untested: 'Not tested, because the server did not answer.',
  causeTitle: 'The cause',
  fixTitle: 'For the people who run the server',
  linesOf: 'Lines for {proxy}',
  someProxy: 'A proxy in front of the server',
  namedProxy: 'A proxy in front of the server (it looks like {proxy})',
  columns: {
    transport: 'transport',
    connected: 'connected',
    first: 'first update',
    delay: 'extra delay',
    quiet: 'when quiet',
    result: 'result',
  },
  connected: 'connected in {ms} ms',
  firstUpdate: 'first update after {ms} ms',
  extraDelay: 'extra delay up to {ms} ms',
  staysOpen: 'stays open when quiet (watched for {seconds} s)',
  cutAfter: 'cut after {seconds} s of quiet',
  wentDead: 'stays open when quiet, but then delivers nothing',
  time: 'Time',
  server: 'Server',
  from: 'From',
  verdict: 'Verdict',
  transportUsed: 'Used here',
  noTransport: 'none',
  levels: { good: 'All good', fair: 'It works, with limitations', bad: 'It does not work' },
  clientTransports: { websocket: 'WebSocket', sse: 'SSE (server-sent events)', poll: 'long polling' },
  transports: {
    websocket: 'WebSocket',
    polling: 'Socket.IO polling',
    sse: 'SSE (server-sent events)',
    longpoll: 'Long polling',
  },
  about: {
    websocket: 'The fastest transport, tried first.',
    polling: 'Socket.IO’s own fallback.',
    sse: 'One response that stays open.',
    longpoll: 'One request after another.',
  },
  outcomes: {
    passes: 'works',
    late: 'works, but late',
    held: 'buffered on the way',
    stops: 'stops midway',
    fails: 'does not work',
  },
  cut: 'works, but is cut when quiet',
  faults: {
    offline: 'no network',
    dns: 'name not found',
    refused: 'connection refused',
    tls: 'no secure connection',
    proxy: 'refused by the proxy',
    unreachable: 'no connection',
    timeout: 'no answer',
    redirected: 'redirected',
    notOurs: 'not a Roomcast server',
    misdirected: 'name refused',
    blocked: 'blocked on the way',
    gateway: 'server not reachable for its proxy',
    busy: 'server full',
    draining: 'server restarting',
    otherNode: 'answered by another server',
    silent: 'opens, but nothing arrives',
    ended: 'cut off',
  },
  verdicts: {
    good: 'Everything works. Live updates arrive by WebSocket.',
    notReady: 'The network is fine, but the server cannot store new events right now.',
    websocketBlocked:
      'Something between this device and the server blocks WebSockets. Live updates arrive by SSE instead.',
    websocketSilent:
      'A WebSocket opens, but something between this device and the server lets no data through. Live updates arrive by SSE instead.',
    onlyPoll:
      'Something between this device and the server blocks WebSockets and streams. Updates still arrive, by long polling.',
    onlyShort: 'Only short requests reach the server. Updates still arrive by polling, with a small delay.',
    fallbackFails: 'Live updates arrive by WebSocket, but these fallbacks do not work here: {transports}.',
    cut: 'Live updates arrive, but something on the way closes quiet connections after about {seconds} s. Applications reconnect by themselves and miss nothing.',
    late: 'Live updates arrive, but up to {seconds} s late.',
    clock: 'Live updates arrive, but this device’s clock is {minutes} min off, so signing in may fail.',
    nothing: 'The server answers, but no transport for live updates works.',
    offline: 'This device has no network right now.',
    dns: 'The server’s name was not found. The address may be mistyped, or this network’s DNS does not know it.',
    refused: 'Nothing answers at this address. The server may be down, or the address may be wrong.',
    tls: 'No secure connection is possible ({detail}). Usually, this device does not accept the server’s certificate.',
    proxy: 'The configured proxy does not let the request through ({detail}).',
    unreachable: 'This device cannot reach the server.',
    timeout: 'The server does not answer.',
    redirected: 'The network redirects this device to another page ({detail}), as networks with a sign-in page do.',
    notOurs: 'Something other than Roomcast answers at this address ({detail}).',
    misdirected: 'The server does not answer to the name in this address (421).',
    blocked: 'Something between this device and the server rejects the request ({detail}).',
    gateway: 'A proxy answers that it cannot reach the server behind it ({detail}).',
    busy: 'The server accepts no more connections or checks right now.',
    draining: 'The server is restarting, or it cannot reach its log.',
    otherNode: 'Several servers share this address, and each request reaches another one.',
    silent: 'The server accepts the connection, but no data comes back.',
    ended: 'The connection to the server was cut off.',
  },
  proxies: { nginx: 'nginx', apache: 'Apache', caddy: 'Caddy', haproxy: 'HAProxy', traefik: 'Traefik' },
  causes: {
    upgradeDropped:
      '{by} removed the upgrade from the WebSocket request: it reached the server as a plain HTTP/{http} request.',
    upgradeDroppedOnTheWay: 'A proxy in this network ({via}) removed the upgrade from the WebSocket request.',
    upgradeStopped:
      'The WebSocket request did not reach the server. A proxy or a firewall in between rejected or dropped it.',
    buffered: '{by} holds the event stream back until it ends.',
    compressed: '{by} compresses the event stream ({encoding}) and holds it back. The server sends it uncompressed.',
    notSticky:
      'Several servers share this address, and the requests of one Socket.IO polling session reach different ones. A session needs the same server from start to end.',
    idle: '{by} closes quiet connections after about {seconds} s.',
  },
  fixes: {
    upgradeDropped:
      'Let the proxy speak HTTP/1.1 to the server and pass the upgrade on. HAProxy, Caddy and Traefik do so by themselves, unless a rule removes or rejects the header Upgrade.',
    upgradeStopped:
      'If a proxy of yours is in front of the server, look there for a rule that rejects requests with the header Upgrade.',
    buffered:
      'Turn response buffering off. nginx does so by itself where it obeys the header X-Accel-Buffering: look for proxy_ignore_headers.',
    compressed: 'Leave responses of type text/event-stream uncompressed.',
    notSticky: 'Send all requests of a client to the same server, for example by the client’s address.',
    idle: 'Raise the idle timeout above 60 s. A lower HEARTBEAT_MS (SSE) or PING_MS (Socket.IO) of the server helps, too.',
  },
  advice: {
    allowWebsocket:
      'Allow WebSockets to {origin} (the HTTP upgrade to “websocket”, path {path}). A proxy, antivirus or firewall that inspects HTTPS often needs an exception for this address.',
    letStreams:
      'Pass responses of type text/event-stream from {origin} on as they arrive, without buffering them or scanning them to the end first. If your own reverse proxy is in front of the server, turn response buffering off there.',
    letPolls: 'Let requests to {origin} last at least 30 s.',
    raiseIdle:
      'Raise the idle timeout for {origin} above 60 s. Something closed connections after {seconds} s of quiet. If a proxy of your own is in front of the server, start there: proxy_read_timeout in nginx, timeout server and timeout tunnel in HAProxy.',
    setClock: 'Set this device’s clock, preferably with automatic time.',
    signIn:
      'Open any web page on this device. If the network asks you to sign in or to accept its terms, do that and run the check again. If only {origin} redirects, check that address: try https:// instead of http://.',
    allowHost:
      'Use localhost or an IP address in {origin}, or ask the people who run the server to add the name to ALLOWED_HOSTS.',
    fixAddress: 'Check the address, {origin}. If it is right, ask the people who run the server or this network’s DNS.',
    fixTls:
      'If this network inspects HTTPS, install its certificate authority on this device. If it does not, ask the people who run {origin} to check its certificate.',
    fixProxy: 'Check the proxy’s address and password, and whether it allows {origin} (and CONNECT to its port).',
    goOnline: 'Connect this device to a network, and run the check again.',
    askServer:
      'Try another network, such as a phone’s. If the check works there, this network blocks {origin}. If it fails there too, the server may be down.',
    askOperator: 'Tell the people who run the server: /readyz reports that the log accepts no events.',
    startServer:
      'Tell the people who run the server: it is down or starting, or the proxy in front of it has a wrong address for it.',
    wait: 'Wait a minute, and run the check again.',
  },
  notes: {
    silentCut:
      'Something closes connections without traffic after {seconds} s. The server’s heartbeats, every {heartbeat} s, keep them open.',
    padding: 'With 8 KB of padding, SSE gets through (`padding=8192`).',
    via: 'A proxy names itself in the responses: {via}',
    proxyHeaders: 'Proxies added headers to the requests: {headers}',
    oldHttp: 'Requests reach the server as HTTP/1.0, which is what nginx sends by default.',
    http2:
      'This browser speaks {protocol} to {origin}. A WebSocket needs HTTP/1.1: check that the proxy there accepts it as well.',
    clock: 'The clocks of this device and the server are {minutes} min apart.',
  },
} satisfies TextsByCode & Readonly<Record<string, string | Readonly<Record<string, string>>>>;

const pt: typeof en = {
  title: 'Teste de conexão',
  intro:
    'Verifica se as atualizações ao vivo chegam a este dispositivo pela rede em que ele está. Leva cerca de meio minuto e não lê dados de clientes.',
  again: 'Testar de novo',
  language: 'Idioma',
  running: 'Testando…',
  contacting: 'Contatando o servidor…',
  testing: 'Testando cada transporte…',
  watching: 'Verificando se conexões em silêncio continuam abertas.',
  timeLeft: 'Faltam {seconds} s.',
  tested: 'Transportes testados',
  usedHere: 'usado aqui',
  adviceForNetwork: 'O que pedir a quem administra a rede',
  adviceForReader: 'O que fazer',
  notesTitle: 'Outras observações',
  report: 'Relatório para o suporte',
  reportHint: 'Texto simples para enviar ao suporte. Não contém senhas, tokens nem dados de clientes.',
  copy: 'Copiar o relatório',
  copied: 'Copiado.',
  notCopied: 'Não foi possível copiar. O relatório está selecionado: copie manualmente.',
  waiting: 'aguardando',
  nothingArrived: 'Nenhuma atualização chegou por aqui.',
  untested: 'Não testado, porque o servidor não respondeu.',
  causeTitle: 'A causa',
  fixTitle: 'Para quem cuida do servidor',
  linesOf: 'Linhas para o {proxy}',
  someProxy: 'Um proxy na frente do servidor',
  namedProxy: 'Um proxy na frente do servidor (parece ser o {proxy})',
  columns: {
    transport: 'transporte',
    connected: 'conexão',
    first: '1ª atualização',
    delay: 'atraso extra',
    quiet: 'em silêncio',
    result: 'resultado',
  },
  connected: 'conectou em {ms} ms',
  firstUpdate: 'primeira atualização após {ms} ms',
  extraDelay: 'atraso extra de até {ms} ms',
  staysOpen: 'continua aberta em silêncio (observada por {seconds} s)',
  cutAfter: 'cai após {seconds} s em silêncio',
  wentDead: 'continua aberta em silêncio, mas depois não entrega mais nada',
  time: 'Hora',
  server: 'Servidor',
  from: 'De',
  verdict: 'Veredito',
  transportUsed: 'Usado aqui',
  noTransport: 'nenhum',
  levels: { good: 'Tudo certo', fair: 'Funciona, mas com limitações', bad: 'Não funciona' },
  clientTransports: { websocket: 'WebSocket', sse: 'SSE (server-sent events)', poll: 'long polling' },
  transports: {
    websocket: 'WebSocket',
    polling: 'Polling do Socket.IO',
    sse: 'SSE (server-sent events)',
    longpoll: 'Long polling',
  },
  about: {
    websocket: 'O transporte mais rápido, tentado primeiro.',
    polling: 'A alternativa do próprio Socket.IO.',
    sse: 'Uma resposta que fica aberta.',
    longpoll: 'Uma requisição após a outra.',
  },
  outcomes: {
    passes: 'funciona',
    late: 'funciona, com atraso',
    held: 'retido no caminho',
    stops: 'para no meio',
    fails: 'não funciona',
  },
  cut: 'funciona, mas cai quando em silêncio',
  faults: {
    offline: 'sem rede',
    dns: 'nome não encontrado',
    refused: 'conexão recusada',
    tls: 'sem conexão segura',
    proxy: 'recusado pelo proxy',
    unreachable: 'sem conexão',
    timeout: 'sem resposta',
    redirected: 'redirecionado',
    notOurs: 'não é um servidor Roomcast',
    misdirected: 'nome recusado',
    blocked: 'bloqueado no caminho',
    gateway: 'o proxy não alcança o servidor',
    busy: 'servidor lotado',
    draining: 'servidor reiniciando',
    otherNode: 'respondido por outro servidor',
    silent: 'abre, mas nada chega',
    ended: 'interrompido',
  },
  verdicts: {
    good: 'Tudo funciona. As atualizações ao vivo chegam por WebSocket.',
    notReady: 'A rede está bem, mas o servidor não consegue gravar novos eventos no momento.',
    websocketBlocked:
      'Algo entre este dispositivo e o servidor bloqueia WebSockets. As atualizações ao vivo chegam por SSE.',
    websocketSilent:
      'O WebSocket abre, mas algo entre este dispositivo e o servidor não deixa os dados passarem. As atualizações ao vivo chegam por SSE.',
    onlyPoll:
      'Algo entre este dispositivo e o servidor bloqueia WebSockets e streams. As atualizações ainda chegam, por long polling.',
    onlyShort:
      'Só requisições curtas chegam ao servidor. As atualizações ainda chegam por polling, com um pequeno atraso.',
    fallbackFails:
      'As atualizações ao vivo chegam por WebSocket, mas estas alternativas não funcionam aqui: {transports}.',
    cut: 'As atualizações ao vivo chegam, mas algo no caminho encerra conexões em silêncio após cerca de {seconds} s. Os aplicativos reconectam sozinhos e não perdem nada.',
    late: 'As atualizações ao vivo chegam, mas com até {seconds} s de atraso.',
    clock:
      'As atualizações ao vivo chegam, mas o relógio deste dispositivo tem {minutes} min de diferença, e o login pode falhar.',
    nothing: 'O servidor responde, mas nenhum transporte de atualizações ao vivo funciona.',
    offline: 'Este dispositivo está sem rede no momento.',
    dns: 'O nome do servidor não foi encontrado. O endereço pode estar errado, ou o DNS desta rede não o conhece.',
    refused: 'Nada responde neste endereço. O servidor pode estar fora do ar, ou o endereço pode estar errado.',
    tls: 'Não é possível fazer uma conexão segura ({detail}). Em geral, este dispositivo não aceita o certificado do servidor.',
    proxy: 'O proxy configurado não deixa a requisição passar ({detail}).',
    unreachable: 'Este dispositivo não consegue acessar o servidor.',
    timeout: 'O servidor não responde.',
    redirected:
      'A rede redireciona este dispositivo para outra página ({detail}), como fazem as redes que pedem login.',
    notOurs: 'Algo que não é o Roomcast responde neste endereço ({detail}).',
    misdirected: 'O servidor não atende pelo nome deste endereço (421).',
    blocked: 'Algo entre este dispositivo e o servidor rejeita a requisição ({detail}).',
    gateway: 'Um proxy responde que não consegue acessar o servidor atrás dele ({detail}).',
    busy: 'O servidor não aceita mais conexões nem testes no momento.',
    draining: 'O servidor está reiniciando, ou não consegue acessar o log.',
    otherNode: 'Vários servidores respondem neste endereço, e cada requisição cai em um diferente.',
    silent: 'O servidor aceita a conexão, mas nenhum dado volta.',
    ended: 'A conexão com o servidor foi interrompida.',
  },
  proxies: { nginx: 'nginx', apache: 'Apache', caddy: 'Caddy', haproxy: 'HAProxy', traefik: 'Traefik' },
  causes: {
    upgradeDropped:
      '{by} removeu o upgrade da requisição de WebSocket: ela chegou ao servidor como uma requisição HTTP/{http} comum.',
    upgradeDroppedOnTheWay: 'Um proxy desta rede ({via}) removeu o upgrade da requisição de WebSocket.',
    upgradeStopped:
      'A requisição de WebSocket não chegou ao servidor. Um proxy ou firewall no caminho a rejeitou ou descartou.',
    buffered: '{by} segura o stream de eventos até o fim.',
    compressed: '{by} comprime o stream de eventos ({encoding}) e o segura. O servidor o envia sem compressão.',
    notSticky:
      'Vários servidores respondem neste endereço, e as requisições de uma mesma sessão de polling do Socket.IO caem em servidores diferentes. Uma sessão precisa do mesmo servidor do começo ao fim.',
    idle: '{by} encerra conexões em silêncio após cerca de {seconds} s.',
  },
  fixes: {
    upgradeDropped:
      'Faça o proxy falar HTTP/1.1 com o servidor e repassar o upgrade. HAProxy, Caddy e Traefik já fazem isso, a menos que uma regra remova ou rejeite o cabeçalho Upgrade.',
    upgradeStopped:
      'Se houver um proxy seu na frente do servidor, procure nele uma regra que rejeite requisições com o cabeçalho Upgrade.',
    buffered:
      'Desligue o buffer de respostas. O nginx já faz isso quando respeita o cabeçalho X-Accel-Buffering: procure por proxy_ignore_headers.',
    compressed: 'Deixe sem compressão as respostas do tipo text/event-stream.',
    notSticky: 'Envie todas as requisições de um cliente ao mesmo servidor, por exemplo pelo endereço do cliente.',
    idle: 'Aumente o tempo limite de inatividade acima de 60 s. Um HEARTBEAT_MS (SSE) ou PING_MS (Socket.IO) menor no servidor também ajuda.',
  },
  advice: {
    allowWebsocket:
      'Libere WebSockets para {origin} (o upgrade HTTP para “websocket”, caminho {path}). Um proxy, antivírus ou firewall que inspeciona HTTPS costuma precisar de uma exceção para este endereço.',
    letStreams:
      'Deixe as respostas do tipo text/event-stream de {origin} passarem à medida que chegam, sem buffer e sem esperar a varredura completa. Se houver um proxy reverso seu na frente do servidor, desligue nele o buffer de respostas.',
    letPolls: 'Deixe as requisições a {origin} durarem pelo menos 30 s.',
    raiseIdle:
      'Aumente o tempo limite de inatividade para {origin} acima de 60 s. Algo encerrou conexões após {seconds} s em silêncio. Se houver um proxy seu na frente do servidor, comece por ele: proxy_read_timeout no nginx, timeout server e timeout tunnel no HAProxy.',
    setClock: 'Acerte o relógio deste dispositivo, de preferência com o horário automático.',
    signIn:
      'Abra qualquer página neste dispositivo. Se a rede pedir login ou aceite de termos, conclua essa etapa e teste de novo. Se só {origin} redirecionar, confira esse endereço: experimente https:// em vez de http://.',
    allowHost:
      'Use localhost ou um endereço IP em {origin}, ou peça a quem cuida do servidor que inclua o nome em ALLOWED_HOSTS.',
    fixAddress: 'Confira o endereço, {origin}. Se estiver certo, fale com quem cuida do servidor ou do DNS desta rede.',
    fixTls:
      'Se esta rede inspeciona HTTPS, instale a autoridade certificadora dela neste dispositivo. Se não, peça a quem cuida de {origin} que verifique o certificado.',
    fixProxy: 'Confira o endereço e a senha do proxy, e se ele permite {origin} (e CONNECT para a porta dele).',
    goOnline: 'Conecte este dispositivo a uma rede e teste de novo.',
    askServer:
      'Tente de outra rede, como a de um celular. Se lá funcionar, esta rede bloqueia {origin}. Se lá também falhar, o servidor pode estar fora do ar.',
    askOperator: 'Avise quem cuida do servidor: /readyz informa que o log não aceita eventos.',
    startServer:
      'Avise quem cuida do servidor: ele está fora do ar ou iniciando, ou o proxy na frente dele usa um endereço errado.',
    wait: 'Espere um minuto e teste de novo.',
  },
  notes: {
    silentCut:
      'Algo encerra conexões sem tráfego após {seconds} s. Os heartbeats do servidor, a cada {heartbeat} s, as mantêm abertas.',
    padding: 'Com 8 KB de preenchimento, o SSE passa (`padding=8192`).',
    via: 'Um proxy se identifica nas respostas: {via}',
    proxyHeaders: 'Proxies acrescentaram cabeçalhos às requisições: {headers}',
    oldHttp: 'As requisições chegam ao servidor como HTTP/1.0, que é o padrão do nginx.',
    http2:
      'Este navegador fala {protocol} com {origin}. Um WebSocket precisa de HTTP/1.1: verifique se o proxy de lá também o aceita.',
    clock: 'Os relógios deste dispositivo e do servidor têm {minutes} min de diferença.',
  },
};

export const TEXTS: Readonly<Record<Language, typeof en>> = { en, pt };

/** The first language of the reader that has texts, else English. */
export function languageOf(tags: readonly string[]): Language {
  const supported = tags.map((tag) => LANGUAGES.find((language) => tag.toLowerCase().startsWith(language)));
  return supported.find((language) => language !== undefined) ?? 'en';
}

export function fill(text: string, values: Values, language: Language): string {
  return text.replaceAll(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name] ?? whole;
    return typeof value === 'number' ? numberText(value, language) : value;
  });
}

export function numberText(value: number, language: Language): string {
  return language === 'pt' ? String(value).replace('.', ',') : String(value);
}

export function messageText<Code extends string>(
  texts: Readonly<Record<Code, string>>,
  { code, values }: Message<Code>,
  language: Language,
): string {
  return fill(texts[code], values, language);
}

export function verdictText({ code, values }: Verdict, language: Language): string {
  const { verdicts, transports } = TEXTS[language];
  const names = String(values.transports ?? '').split(' ');
  const named = names.map((name) => transports[name as TransportName]).join(', ');
  // A fault without a detail leaves empty parentheses.
  return messageText(verdicts, { code, values: { ...values, transports: named } }, language).replace(' ()', '');
}

export function causeText({ code, values, proxy }: Cause, language: Language): string {
  const { causes, proxies, someProxy, namedProxy } = TEXTS[language];
  const by = proxy === null ? someProxy : fill(namedProxy, { proxy: proxies[proxy] }, language);
  return fill(causes[code], { ...values, by }, language);
}

/** What the people who run the server can do; null: the advice says what to ask of others. */
export function fixText({ code }: Cause, language: Language): string | null {
  return (TEXTS[language].fixes as Partial<Record<CauseCode, string>>)[code] ?? null;
}

/** The heading of a remedy's lines. */
export function linesTitle(proxy: ProxyName, language: Language): string {
  const { linesOf, proxies } = TEXTS[language];
  return fill(linesOf, { proxy: proxies[proxy] }, language);
}

const FOR_NETWORK: ReadonlySet<AdviceCode> = new Set(['allowWebsocket', 'letStreams', 'letPolls', 'raiseIdle']);

export function adviceTitle({ advice }: Verdict, language: Language): string {
  const { adviceForReader, adviceForNetwork } = TEXTS[language];
  return advice.some(({ code }) => FOR_NETWORK.has(code)) ? adviceForNetwork : adviceForReader;
}

/**
 * Every word of the connection check, in English and Portuguese, for the page and for `roomcast doctor`. A text's
 * `{name}` is replaced by a value. The reader is who helps a customer, not who runs a network.
 */
import type { TransportName } from '../contract/names.ts';
import type { FaultKind } from './result.ts';
import type { AdviceCode, Judgement, Level, NoteCode, Outcome, Rung, Said, VerdictCode } from './verdict.ts';

export const LANGUAGES = ['en', 'pt'] as const;
export type Language = (typeof LANGUAGES)[number];

interface Texts {
  readonly title: string;
  readonly intro: string;
  readonly again: string;
  readonly language: string;
  readonly measuring: string;
  readonly asking: string;
  readonly frames: string;
  readonly watching: string;
  readonly left: string;
  readonly tried: string;
  readonly usedHere: string;
  /** Above advice for the network's people, and above what the reader can do. */
  readonly advice: string;
  readonly toDo: string;
  readonly notes: string;
  readonly report: string;
  readonly reportHint: string;
  readonly copy: string;
  readonly copied: string;
  readonly notCopied: string;
  readonly waiting: string;
  readonly columns: Readonly<Record<'transport' | 'connects' | 'first' | 'held' | 'quiet' | 'result', string>>;
  readonly connects: string;
  readonly first: string;
  readonly held: string;
  readonly open: string;
  readonly cutAfter: string;
  readonly wentDead: string;
  readonly time: string;
  readonly server: string;
  readonly from: string;
  readonly verdictLabel: string;
  readonly levels: Readonly<Record<Level, string>>;
  readonly rungs: Readonly<Record<Rung, string>>;
  readonly noRung: string;
  readonly rungLabel: string;
  readonly transports: Readonly<Record<TransportName, string>>;
  readonly about: Readonly<Record<TransportName, string>>;
  readonly outcomes: Readonly<Record<Outcome, string>>;
  readonly cut: string;
  readonly faults: Readonly<Record<FaultKind, string>>;
  readonly verdicts: Readonly<Record<VerdictCode, string>>;
  readonly advices: Readonly<Record<AdviceCode, string>>;
  readonly noteTexts: Readonly<Record<NoteCode, string>>;
}

const en: Texts = {
  title: 'Connection check',
  intro:
    'Finds out whether live updates reach this device, through the network that it is in. It takes about half a minute and reads no one’s data.',
  again: 'Run again',
  language: 'Language',
  measuring: 'Checking…',
  asking: 'Looking for the server…',
  frames: 'Trying each way for updates to come…',
  watching: 'Watching whether quiet connections stay open.',
  left: '{seconds} s to go.',
  tried: 'What was tried',
  usedHere: 'used here',
  advice: 'What to tell the people who run the network',
  toDo: 'What to do',
  notes: 'Also seen',
  report: 'Report for support',
  reportHint: 'Plain text to send to support. It holds no passwords, tokens or customer data.',
  copy: 'Copy the report',
  copied: 'Copied.',
  notCopied: 'The report is marked: copy it by hand.',
  waiting: 'waiting',
  columns: {
    transport: 'way',
    connects: 'connects',
    first: 'first',
    held: 'held back',
    quiet: 'quiet',
    result: 'result',
  },
  connects: 'connected in {ms} ms',
  first: 'first update after {ms} ms',
  held: 'held back at most {ms} ms',
  open: 'stays open while quiet ({seconds} s watched)',
  cutAfter: 'ended after {seconds} s of quiet',
  wentDead: 'stays open while quiet, but nothing comes through any more',
  time: 'Time',
  server: 'Server',
  from: 'From',
  verdictLabel: 'Verdict',
  levels: { good: 'All is well', fair: 'It works, but not at its best', bad: 'It does not work' },
  rungs: { websocket: 'WebSocket', sse: 'SSE (server-sent events)', poll: 'polling' },
  noRung: 'none',
  rungLabel: 'Used here',
  transports: {
    websocket: 'WebSocket',
    polling: 'Socket.IO polling',
    sse: 'SSE (server-sent events)',
    longpoll: 'Long polling',
  },
  about: {
    websocket: 'The quickest way, and the first choice.',
    polling: 'What Socket.IO itself falls back to.',
    sse: 'The second choice: one long answer.',
    longpoll: 'The last resort: one request after another.',
  },
  outcomes: {
    passes: 'works',
    late: 'works, late',
    held: 'held back',
    stops: 'breaks off',
    fails: 'does not work',
  },
  cut: 'works, is cut',
  faults: {
    offline: 'no network',
    dns: 'name not found',
    refused: 'connection refused',
    tls: 'no secure connection',
    proxy: 'the proxy refused',
    unreachable: 'no connection',
    timeout: 'no answer',
    redirected: 'sent elsewhere',
    notOurs: 'answered by something else',
    blocked: 'refused on the way',
    busy: 'server full',
    draining: 'server restarting',
    silent: 'opens, but nothing comes through',
    ended: 'broken off',
  },
  verdicts: {
    good: 'Everything works. Live updates arrive by WebSocket.',
    notReady: 'The network is fine, but the server cannot take new events at the moment.',
    websocketBlocked:
      'WebSockets are blocked by something between this device and the server; live updates go on by SSE.',
    websocketSilent:
      'A WebSocket opens, but something between this device and the server lets nothing through it; live updates go on by SSE.',
    onlyPoll:
      'Something between this device and the server lets through neither WebSockets nor streams; updates still come, by repeated requests.',
    onlyShort:
      'Only short requests get through to the server; updates still come, a little late, by repeated requests.',
    fallbackFails:
      'Live updates arrive by WebSocket. What would stand in for it does not work here, though: {transports}.',
    cut: 'Live updates arrive, but something in between ends quiet connections after about {seconds} s. Applications reconnect by themselves and miss nothing.',
    late: 'Live updates arrive, but up to {seconds} s late.',
    clock: 'Live updates arrive, but the clock of this device is {minutes} min off: signing in may fail.',
    nothing: 'The server answers, but no way for live updates gets through to it.',
    offline: 'This device has no network at the moment.',
    dns: 'The server’s name cannot be found. The address may be mistyped, or this network does not know it.',
    refused: 'Nothing answers at this address: the server may be down, or the address is wrong.',
    tls: 'No secure connection can be made: the certificate is not accepted here ({detail}).',
    proxy: 'The proxy that is configured here does not let the request through ({detail}).',
    unreachable: 'The server cannot be reached from here.',
    timeout: 'The server does not answer.',
    redirected: 'This device is sent elsewhere ({detail}), as networks do that ask to sign in first.',
    notOurs: 'Something else than Roomcast answers at this address ({detail}).',
    blocked: 'Something between this device and the server refuses the request ({detail}).',
    busy: 'The server takes no more connections or checks at the moment.',
    draining: 'The server is restarting, or its log cannot be reached.',
    silent: 'The server can be reached, but nothing comes back.',
    ended: 'The connection to the server was broken off.',
  },
  advices: {
    allowWebsocket:
      'Allow WebSockets to {origin} (the HTTP upgrade to “websocket”, path {path}). A proxy, antivirus or firewall that looks into HTTPS often needs an exception for this address.',
    letStreams:
      'Let answers of type text/event-stream from {origin} through as they come: no buffering, no scanning until the end. If a reverse proxy of one’s own stands before the server, switch response buffering off there.',
    letPolls: 'Let requests to {origin} last at least 30 s.',
    raiseIdle:
      'Raise the idle time-out for {origin} to more than 60 s: something ended connections after {seconds} s of quiet.',
    setClock: 'Set the clock of this device, best by automatic time.',
    signIn:
      'Open any web page here. If the network asks to sign in or to accept terms, do so, and run the check again. If only {origin} does so, check that address: https:// instead of http://, for one.',
    fixAddress: 'Check the address, {origin}; if it is right, ask who runs the server or this network’s names (DNS).',
    fixTls:
      'If this network looks into HTTPS, its certificate authority must be known to this device; else the certificate of {origin} is to be renewed by who runs it.',
    fixProxy: 'Check the proxy’s address and password, and whether it allows {origin} (and CONNECT to its port).',
    goOnline: 'Connect this device to a network, and run the check again.',
    askServer:
      'Try from another network, such as a phone’s. If it works there, this network blocks {origin}; if not, the server is down.',
    askOperator: 'Tell the people who run the server: /readyz says that the log takes no events.',
    wait: 'Wait a minute, and run the check again.',
  },
  noteTexts: {
    silentCut:
      'Connections without any traffic are ended after {seconds} s; the server’s heartbeats, every {heartbeat} s, keep them open.',
    padding: 'Behind 8 KB of padding, SSE does come through (`padding=8192`).',
    via: 'A proxy names itself in the answers: {via}',
    proxyHeaders: 'Proxies added headers to the requests: {headers}',
    oldHttp: 'Requests reach the server as HTTP/1.0, which is what nginx does by default.',
    clock: 'The clocks of this device and of the server are {minutes} min apart.',
  },
};

const pt: Texts = {
  title: 'Teste de conexão',
  intro:
    'Descobre se as atualizações ao vivo chegam a este dispositivo, pela rede em que ele está. Leva cerca de meio minuto e não lê dados de ninguém.',
  again: 'Testar de novo',
  language: 'Idioma',
  measuring: 'Testando…',
  asking: 'Procurando o servidor…',
  frames: 'Experimentando cada caminho por onde as atualizações podem vir…',
  watching: 'Observando se conexões sem tráfego continuam abertas.',
  left: 'Mais {seconds} s.',
  tried: 'O que foi testado',
  usedHere: 'usado aqui',
  advice: 'O que dizer a quem cuida da rede',
  toDo: 'O que fazer',
  notes: 'Também observado',
  report: 'Relatório para o suporte',
  reportHint: 'Texto simples para enviar ao suporte. Não contém senhas, tokens nem dados de clientes.',
  copy: 'Copiar o relatório',
  copied: 'Copiado.',
  notCopied: 'O relatório está selecionado: copie manualmente.',
  waiting: 'aguardando',
  columns: {
    transport: 'caminho',
    connects: 'conecta',
    first: 'primeira',
    held: 'retenção',
    quiet: 'ociosa',
    result: 'resultado',
  },
  connects: 'conectou em {ms} ms',
  first: 'primeira atualização após {ms} ms',
  held: 'retida no máximo {ms} ms',
  open: 'continua aberta sem tráfego ({seconds} s observados)',
  cutAfter: 'encerrada após {seconds} s sem tráfego',
  wentDead: 'continua aberta sem tráfego, mas nada mais passa por ela',
  time: 'Hora',
  server: 'Servidor',
  from: 'De',
  verdictLabel: 'Veredito',
  levels: { good: 'Tudo certo', fair: 'Funciona, mas não do melhor jeito', bad: 'Não funciona' },
  rungs: { websocket: 'WebSocket', sse: 'SSE (server-sent events)', poll: 'polling' },
  noRung: 'nenhum',
  rungLabel: 'Usado aqui',
  transports: {
    websocket: 'WebSocket',
    polling: 'Polling do Socket.IO',
    sse: 'SSE (server-sent events)',
    longpoll: 'Long polling',
  },
  about: {
    websocket: 'O caminho mais rápido e a primeira escolha.',
    polling: 'O plano B do próprio Socket.IO.',
    sse: 'A segunda escolha: uma resposta longa.',
    longpoll: 'O último recurso: uma requisição após a outra.',
  },
  outcomes: {
    passes: 'funciona',
    late: 'funciona com atraso',
    held: 'retido',
    stops: 'interrompido',
    fails: 'não funciona',
  },
  cut: 'funciona, mas é cortado',
  faults: {
    offline: 'sem rede',
    dns: 'nome não encontrado',
    refused: 'conexão recusada',
    tls: 'sem conexão segura',
    proxy: 'recusado pelo proxy',
    unreachable: 'sem conexão',
    timeout: 'sem resposta',
    redirected: 'desviado',
    notOurs: 'outra coisa respondeu',
    blocked: 'recusado no caminho',
    busy: 'servidor lotado',
    draining: 'servidor reiniciando',
    silent: 'abre, mas nada passa',
    ended: 'interrompido',
  },
  verdicts: {
    good: 'Tudo funciona. As atualizações ao vivo chegam por WebSocket.',
    notReady: 'A rede está bem, mas o servidor não consegue receber novos eventos no momento.',
    websocketBlocked:
      'Algo entre este dispositivo e o servidor bloqueia WebSockets; as atualizações ao vivo continuam por SSE.',
    websocketSilent:
      'O WebSocket abre, mas algo entre este dispositivo e o servidor não deixa nada passar por ele; as atualizações ao vivo continuam por SSE.',
    onlyPoll:
      'Algo entre este dispositivo e o servidor não deixa passar nem WebSockets nem streams; as atualizações ainda chegam, por requisições repetidas.',
    onlyShort:
      'Só requisições curtas chegam ao servidor; as atualizações ainda chegam, com um pequeno atraso, por requisições repetidas.',
    fallbackFails:
      'As atualizações ao vivo chegam por WebSocket. Mas o que poderia substituí-lo não funciona aqui: {transports}.',
    cut: 'As atualizações ao vivo chegam, mas algo no caminho encerra conexões sem tráfego após cerca de {seconds} s. Os aplicativos reconectam sozinhos e não perdem nada.',
    late: 'As atualizações ao vivo chegam, mas com até {seconds} s de atraso.',
    clock:
      'As atualizações ao vivo chegam, mas o relógio deste dispositivo tem {minutes} min de diferença: o login pode falhar.',
    nothing: 'O servidor responde, mas nenhum caminho para atualizações ao vivo passa até ele.',
    offline: 'Este dispositivo está sem rede no momento.',
    dns: 'O nome do servidor não foi encontrado. O endereço pode estar errado, ou esta rede não o conhece.',
    refused: 'Nada responde neste endereço: o servidor pode estar fora do ar, ou o endereço está errado.',
    tls: 'Não é possível fazer uma conexão segura: o certificado não é aceito aqui ({detail}).',
    proxy: 'O proxy configurado aqui não deixa a requisição passar ({detail}).',
    unreachable: 'Não é possível chegar ao servidor a partir daqui.',
    timeout: 'O servidor não responde.',
    redirected:
      'Este dispositivo é desviado para outro lugar ({detail}), como fazem as redes que pedem login primeiro.',
    notOurs: 'Algo que não é o Roomcast responde neste endereço ({detail}).',
    blocked: 'Algo entre este dispositivo e o servidor recusa a requisição ({detail}).',
    busy: 'O servidor não aceita mais conexões ou testes no momento.',
    draining: 'O servidor está reiniciando, ou seu log está inacessível.',
    silent: 'É possível chegar ao servidor, mas nada volta.',
    ended: 'A conexão com o servidor foi interrompida.',
  },
  advices: {
    allowWebsocket:
      'Liberar WebSockets para {origin} (o upgrade HTTP para “websocket”, caminho {path}). Um proxy, antivírus ou firewall que inspeciona HTTPS costuma precisar de uma exceção para este endereço.',
    letStreams:
      'Deixar passar respostas do tipo text/event-stream de {origin} à medida que chegam: sem buffer e sem varredura até o fim. Se houver um proxy reverso próprio na frente do servidor, desligar nele o buffer de respostas.',
    letPolls: 'Deixar que requisições a {origin} durem pelo menos 30 s.',
    raiseIdle:
      'Aumentar o tempo limite de inatividade para {origin} acima de 60 s: algo encerrou conexões após {seconds} s sem tráfego.',
    setClock: 'Acertar o relógio deste dispositivo, de preferência pelo horário automático.',
    signIn:
      'Abrir qualquer página aqui. Se a rede pedir login ou aceite de termos, fazê-lo e testar de novo. Se só {origin} fizer isso, conferir o endereço: https:// em vez de http://, por exemplo.',
    fixAddress:
      'Conferir o endereço, {origin}; se estiver certo, falar com quem cuida do servidor ou dos nomes desta rede (DNS).',
    fixTls:
      'Se esta rede inspeciona HTTPS, a autoridade certificadora dela precisa ser conhecida por este dispositivo; senão, o certificado de {origin} precisa ser renovado por quem cuida dele.',
    fixProxy: 'Conferir o endereço e a senha do proxy, e se ele permite {origin} (e CONNECT para a porta dele).',
    goOnline: 'Conectar este dispositivo a uma rede e testar de novo.',
    askServer:
      'Tentar de outra rede, como a de um celular. Se lá funcionar, esta rede bloqueia {origin}; se não, o servidor está fora do ar.',
    askOperator: 'Avisar quem cuida do servidor: /readyz diz que o log não aceita eventos.',
    wait: 'Esperar um minuto e testar de novo.',
  },
  noteTexts: {
    silentCut:
      'Conexões sem nenhum tráfego são encerradas após {seconds} s; os sinais de vida do servidor, a cada {heartbeat} s, as mantêm abertas.',
    padding: 'Com 8 KB de preenchimento, o SSE passa (`padding=8192`).',
    via: 'Um proxy se identifica nas respostas: {via}',
    proxyHeaders: 'Proxies acrescentaram cabeçalhos às requisições: {headers}',
    oldHttp: 'As requisições chegam ao servidor como HTTP/1.0, que é o padrão do nginx.',
    clock: 'Os relógios deste dispositivo e do servidor diferem em {minutes} min.',
  },
};

export const TEXTS: Readonly<Record<Language, Texts>> = { en, pt };

/** The first of the reader's languages that there are words in; else English. */
export function languageOf(tags: readonly string[]): Language {
  const known = tags.map((tag) => LANGUAGES.find((language) => tag.toLowerCase().startsWith(language)));
  return known.find((language) => language !== undefined) ?? 'en';
}

export function fill(text: string, values: Readonly<Record<string, string | number>>, language: Language): string {
  return text.replaceAll(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name] ?? whole;
    return typeof value === 'number' ? numberText(value, language) : value;
  });
}

export function numberText(value: number, language: Language): string {
  return language === 'pt' ? String(value).replace('.', ',') : String(value);
}

export function verdictText({ verdict: { code, values } }: Judgement, language: Language): string {
  const { verdicts, transports } = TEXTS[language];
  if (typeof values.transports !== 'string') return say(verdicts, { code, values }, language).replace(' ()', '');
  const names = values.transports.split(' ').map((name) => transports[name as TransportName]);
  return fill(verdicts[code], { transports: names.join(', ') }, language);
}

const FOR_THE_NETWORK: ReadonlySet<AdviceCode> = new Set(['allowWebsocket', 'letStreams', 'letPolls', 'raiseIdle']);

export function adviceTitle({ advice }: Judgement, language: Language): string {
  const { toDo, advice: tell } = TEXTS[language];
  return advice.some(({ code }) => FOR_THE_NETWORK.has(code)) ? tell : toDo;
}

export function say<Code extends string>(
  texts: Readonly<Record<Code, string>>,
  { code, values }: Said<Code>,
  language: Language,
): string {
  return fill(texts[code], values, language);
}

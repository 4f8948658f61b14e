/**
 * What the people of the demo say. A small help desk sells payroll loans and insurance over WhatsApp. All of it is made up;
 * the dialogue stays Portuguese in every language of the page.
 */
export interface Conversation {
  readonly contact: string;
  readonly subject: string;
  /** Who answers, unless you do. */
  readonly agent: string;
  readonly turns: readonly Turn[];
  /** How many turns were said before you open the page. */
  readonly past: number;
}

/** `deleted`: the customer takes it back after a moment. */
export type Turn = readonly [who: 'customer' | 'agent', text: string, fate?: 'deleted'];

export const AGENTS = ['Marina', 'Paulo', 'Sofia'];

/** What a customer says to an answer of yours. */
export const THANKS = [
  'Ah, entendi! Obrigado',
  'Perfeito, vou ver aqui e te aviso.',
  'Show, era isso mesmo que eu precisava.',
  'Certo! Qualquer coisa eu chamo de novo.',
  'Obrigada pela atenção 😊',
];

/** The last one wrote last: it is the first of the list when the page opens. */
export const CONVERSATIONS: readonly Conversation[] = [
  {
    contact: 'Fábio',
    subject: 'Segunda via do boleto',
    agent: 'Paulo',
    past: 4,
    turns: [
      ['customer', 'Boa tarde, preciso da segunda via do boleto de novembro'],
      ['agent', 'Boa tarde, Fábio! Já localizei aqui. Prefere PDF ou o código de barras?'],
      ['customer', 'O código mesmo'],
      ['agent', 'Enviei por e-mail e por SMS. O vencimento foi para o dia 5, sem juros.'],
      ['customer', 'Recebi, obrigado!'],
      ['agent', 'Por nada! Posso ajudar em mais alguma coisa?'],
      ['customer', 'Dá para colocar em débito automático?'],
      ['agent', 'Dá sim. Me confirma só o banco? O resto já está no cadastro.'],
      ['customer', 'O mesmo do pagamento do mês passado'],
      ['agent', 'Feito A partir de dezembro o débito é automático, todo dia 5.'],
    ],
  },
  {
    contact: 'نور',
    subject: 'Dúvida sobre documentos',
    agent: 'Sofia',
    past: 3,
    turns: [
      ['customer', 'Bom dia! O RNM serve como documento para o empréstimo?'],
      ['agent', 'Bom dia! Serve sim, desde que esteja dentro da validade.'],
      ['customer', 'Vale até 2031. E o comprovante de residência, pode estar no nome do meu marido?'],
      ['agent', 'Pode. Nesse caso mande também a certidão de casamento, por favor.'],
      ['customer', 'Segue em anexo'],
      ['agent', 'Recebido! A análise leva um dia útil. Aviso por aqui.'],
      ['customer', 'Ótimo. Muito obrigada'],
    ],
  },
  {
    contact: 'Elisa',
    subject: 'Seguro de vida',
    agent: 'Marina',
    past: 4,
    turns: [
      ['customer', 'Oi! O seguro de vida de vocês cobre invalidez?'],
      ['agent', 'Oi, Elisa! Cobre sim: invalidez por acidente, total ou parcial.'],
      ['customer', 'E o valor por mês?'],
      ['agent', 'Para a sua idade, R$ 38,90 por mês com cobertura de R$ 100 mil.'],
      ['customer', 'Meu marido pode entrar na mesma apólice?'],
      ['agent', 'Pode! Para os dois fica R$ 69,80, um pouco menos que duas apólices.'],
      ['customer', 'Vou falar com ele hoje à noite'],
      ['agent', 'Combinado. Deixo a simulação salva por sete dias.'],
      ['customer', 'Perfeito, obrigada 😊'],
    ],
  },
  {
    contact: 'Davi',
    subject: 'Portabilidade',
    agent: 'Paulo',
    past: 5,
    turns: [
      ['customer', 'Quero trazer meu consignado de outro banco. A taxa lá é 2,05%'],
      ['agent', 'Olá, Davi! Hoje conseguimos 1,79% ao mês. Quantas parcelas faltam?'],
      ['customer', 'Faltam 52 de 84'],
      ['agent', 'A parcela cairia de R$ 412,00 para R$ 371,60, com o mesmo prazo.'],
      ['customer', 'Bom demais! E tem algum custo?'],
      ['agent', 'Nenhum. A portabilidade é gratuita por lei. Só preciso do contrato atual.'],
      ['customer', 'Não era essa foto, desculpa', 'deleted'],
      ['customer', 'Agora sim: segue o contrato'],
      ['agent', 'Tudo certo com o contrato. O outro banco tem cinco dias úteis para responder.'],
      ['customer', 'Beleza, fico no aguardo'],
      ['agent', 'Assim que responderem eu escrevo para você.'],
    ],
  },
  {
    contact: 'Gabi',
    subject: 'Seguro residencial',
    agent: 'Sofia',
    past: 4,
    turns: [
      ['customer', 'Oi, moro de aluguel. Posso fazer seguro residencial mesmo assim?'],
      ['agent', 'Pode, Gabi! Para inquilino, o seguro cobre o que está dentro de casa.'],
      ['customer', 'Cobre roubo de bicicleta na garagem do prédio?'],
      ['agent', 'Cobre, se a garagem for fechada e a bicicleta estiver declarada.'],
      ['customer', 'É fechada, sim. Quanto fica?'],
      ['agent', 'R$ 24,50 por mês, com a bicicleta até R$ 5 mil.'],
      ['customer', 'Achei barato haha'],
      ['agent', '😄 Mando a proposta para assinar pelo celular?'],
      ['customer', 'Manda!'],
      ['agent', 'Enviada. O link vale até amanhã às 18h.'],
      ['customer', 'Assinei!'],
    ],
  },
  {
    contact: 'Bruno',
    subject: 'Antecipação de parcelas',
    agent: 'Marina',
    past: 4,
    turns: [
      ['customer', 'Bom dia, recebi o 13º e queria adiantar umas parcelas'],
      ['agent', 'Bom dia, Bruno! Boa ideia: cada parcela antecipada tem desconto dos juros.'],
      ['customer', 'Se eu adiantar as 6 últimas, quanto economizo?'],
      ['agent', 'As seis somam R$ 1.790,40. Antecipando hoje, você paga R$ 1.512,15.'],
      ['customer', 'Opa! Então quero as 6'],
      ['agent', 'Gerando o boleto… O valor vale só para hoje, tudo bem?'],
      ['customer', 'Tudo bem, pago agora pelo aplicativo'],
      ['agent', 'Enviei A baixa aparece em até um dia útil.'],
      ['customer', 'Pago! Valeu mesmo'],
      ['agent', 'Obrigada, Bruno! Você encurtou o contrato em seis meses!'],
    ],
  },
  {
    contact: 'Carla',
    subject: 'Seguro do carro',
    agent: 'Paulo',
    past: 5,
    turns: [
      ['customer', 'Gente, bati o carro 😟 foi só a lataria, ninguém se machucou'],
      ['agent', 'Que susto, Carla! Que bom que todos estão bem. Vou abrir o sinistro agora.'],
      ['agent', 'Consegue mandar fotos do carro e da placa do outro veículo?'],
      ['customer', 'Consigo, seguem 4 fotos'],
      ['agent', 'Recebi todas. O outro motorista reconheceu a culpa?'],
      ['customer', 'Reconheceu, e assinou o boletim'],
      ['agent', 'Ótimo, então você não paga franquia. A oficina mais perto fica a 2 km de você.'],
      ['customer', 'E carro reserva?'],
      ['agent', 'Você tem direito a sete dias. Reservo para amanhã cedo?'],
      ['customer', 'Por favor! Vocês me salvaram'],
      ['agent', 'Reservado para as 8h. Cuide-se, e qualquer coisa é só chamar.'],
    ],
  },
  {
    contact: 'Ana',
    subject: 'Empréstimo consignado',
    agent: 'Marina',
    past: 7,
    turns: [
      ['customer', 'Bom dia! Vi o anúncio do consignado 😊'],
      ['agent', 'Bom dia, Ana! Que bom que chamou. Você é servidora ou aposentada?'],
      ['customer', 'Servidora do estado, há 11 anos'],
      ['agent', 'Perfeito. De quanto você precisa, mais ou menos?'],
      ['customer', 'Uns 12 mil, para reformar a cozinha'],
      ['agent', 'Simulação: R$ 12.000,00 em 84 parcelas de R$ 271,30, com taxa de 1,79% ao mês.'],
      ['customer', 'E se eu fizer em 60 vezes?'],
      ['agent', 'Em 60 fica R$ 327,80. No total você paga R$ 3.121 a menos.'],
      ['customer', 'Nossa, compensa mesmo. A parcela cabe na minha margem?'],
      ['agent', 'Cabe: sua margem livre é de R$ 540,00, já com os descontos deste mês.'],
      ['customer', 'Não entendi uma coisa: o que é "margem"?'],
      ['agent', 'É a parte do salário que a lei permite usar em parcelas. Protege você de se endividar.'],
      ['customer', 'Ah, entendi! Faz sentido'],
      ['customer', 'Pode ser em 60 então. Mando o contracheque por aqui?'],
      ['agent', 'Pode mandar, é seguro'],
      ['customer', 'Segue em anexo'],
      ['agent', 'Recebido Em até duas horas a proposta chega para você assinar.'],
      ['customer', 'Vou até avisar o pedreiro haha'],
      ['agent', '😄 Já pode escolher o azulejo!'],
      ['customer', 'Muito obrigada, Marina'],
    ],
  },
];

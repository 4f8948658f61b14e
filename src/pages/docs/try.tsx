/** Beside each operation: samples in curl and JavaScript, a form, "send", and the answer. */
import { useMemo, useState } from 'preact/hooks';
import { printableJson } from '../../contract/printable.ts';
import { type Access, BASE } from '../console/access.ts';
import { Button, CopyButton, Dialog, Field, Scroll, Select } from '../console/elements.tsx';
import { useModels } from '../console/model.ts';
import { LANGUAGE_TAGS, language } from '../language.ts';
import {
  bodiesOf,
  curlOf,
  type Filled,
  firstValues,
  javaScriptOf,
  keyOf,
  type Parameter,
  type Route,
  requestOf,
} from './request.ts';
import { createSending, type Sending } from './sending.ts';
import { docsTexts } from './texts.ts';

const SAMPLES = { curl: curlOf, JavaScript: javaScriptOf } as const;
type Sample = keyof typeof SAMPLES;

interface TryProps {
  readonly route: Route;
  readonly access: Access;
}

export function Try({ route, access }: TryProps) {
  useModels(access, language);
  const t = docsTexts();
  const [isOpen, setOpen] = useState(false);
  const [sample, setSample] = useState<Sample>('curl');
  const bodies = useMemo(() => bodiesOf(route), [route]);
  const [filled, setFilled] = useState<Filled>(() => ({
    values: firstValues(
      route,
      access.claims?.tenants.find((id) => id !== '*'),
    ),
    body: bodies[0]?.text ?? null,
  }));
  const request = requestOf(route, filled, BASE);
  const text = SAMPLES[sample](request, access.token !== null && request.takesToken);
  const { summary } = route.operation;
  return (
    <section class="card" lang={LANGUAGE_TAGS[language.current]} aria-label={`${t.sample}: ${summary}`}>
      <div class="bar">
        <div class="tabs">
          {(Object.keys(SAMPLES) as Sample[]).map((name) => (
            <Button key={name} kind="quiet" isPressed={sample === name} onClick={() => setSample(name)}>
              {name}
            </Button>
          ))}
        </div>
        <CopyButton text={text} />
      </div>
      <Scroll label={`${t.sample}: ${summary}`}>
        <pre>{text}</pre>
      </Scroll>
      {isOpen ? (
        <Form route={route} access={access} filled={filled} setFilled={setFilled} close={() => setOpen(false)} />
      ) : (
        <div class="actions">
          <Button kind="primary" label={`${t.tryIt}: ${summary}`} onClick={() => setOpen(true)}>
            {t.tryIt}
          </Button>
        </div>
      )}
    </section>
  );
}

interface FormProps extends TryProps {
  readonly filled: Filled;
  readonly setFilled: (filled: Filled) => void;
  readonly close: () => void;
}

function Form({ route, access, filled, setFilled, close }: FormProps) {
  const t = docsTexts();
  const [sending] = useState(createSending);
  useModels(sending);
  const [isChecked, setChecked] = useState(false);
  const [isAsking, setAsking] = useState(false);
  const { method, operation } = route;
  const { parameters = [] } = operation;
  const bodies = bodiesOf(route);
  const isMissing = (parameter: Parameter): boolean =>
    parameter.required === true && (filled.values[keyOf(parameter)] ?? '') === '';
  const bodyFault = filled.body === null ? null : jsonFault(filled.body);
  const request = requestOf(route, filled, BASE);

  function send(): void {
    setAsking(false);
    void sending.send(request, request.takesToken ? access.token : null);
  }

  function submit(event: Event): void {
    event.preventDefault();
    setChecked(true);
    if (parameters.some(isMissing) || bodyFault !== null) return;
    if (method === 'DELETE' || operation.operationId === 'revoke') setAsking(true);
    else send();
  }

  return (
    <>
      <form class="stacked" noValidate onSubmit={submit}>
        {parameters.map((parameter) => (
          <ParameterField
            key={keyOf(parameter)}
            parameter={parameter}
            value={filled.values[keyOf(parameter)] ?? ''}
            fault={isChecked && isMissing(parameter) ? t.missing : null}
            onInput={(value) => setFilled({ ...filled, values: { ...filled.values, [keyOf(parameter)]: value } })}
          />
        ))}
        {bodies.length > 1 && (
          <Select
            label={t.example}
            value={bodies.find(({ text }) => text === filled.body)?.title ?? ''}
            options={['', ...bodies.map(({ title }) => title)]}
            onChoose={(title) => {
              const chosen = bodies.find((body) => body.title === title);
              if (chosen !== undefined) setFilled({ ...filled, body: chosen.text });
            }}
          />
        )}
        {filled.body !== null && (
          <Field
            label={t.body}
            value={filled.body}
            rows={Math.min(20, filled.body.split('\n').length)}
            fault={isChecked && bodyFault !== null ? t.badJson(bodyFault) : null}
            onInput={(body) => setFilled({ ...filled, body })}
          />
        )}
        <div class="actions">
          {sending.isRunning ? (
            <Button kind="danger" onClick={sending.stop}>
              {t.stop}
            </Button>
          ) : (
            <Button kind="primary" type="submit">
              {t.send}
            </Button>
          )}
          <Button
            onClick={() => {
              sending.stop();
              close();
            }}
          >
            {t.close}
          </Button>
        </div>
      </form>
      <Answer sending={sending} />
      {isAsking && (
        <Dialog
          title={t.confirmTitle(method, new URL(request.url).pathname)}
          action={t.confirm(method)}
          isDangerous
          onClose={() => setAsking(false)}
          onConfirm={send}
        >
          <p lang="en">{operation.summary}.</p>
          <p>{t.confirmNote(location.host)}</p>
        </Dialog>
      )}
    </>
  );
}

interface ParameterFieldProps {
  readonly parameter: Parameter;
  readonly value: string;
  readonly fault: string | null;
  readonly onInput: (value: string) => void;
}

function ParameterField({ parameter, value, fault, onInput }: ParameterFieldProps) {
  const { name, required = false, schema } = parameter;
  const values = schema.type === 'boolean' ? ['true', 'false'] : schema.enum?.map(String);
  const hint = parameter.in === 'query' ? undefined : parameter.in;
  if (values !== undefined) {
    return <Select label={name} value={value} options={['', ...values]} hint={hint} onChoose={onInput} />;
  }
  return (
    <Field
      label={name}
      value={value}
      isRequired={required}
      placeholder={schema.default === undefined ? undefined : String(schema.default)}
      hint={hint}
      fault={fault}
      onInput={onInput}
    />
  );
}

function Answer({ sending }: { readonly sending: Sending }) {
  const t = docsTexts();
  const { isRunning, answer, fault } = sending;
  const state = isRunning ? (answer === null ? t.sending : t.streaming) : '';
  return (
    <div class="answer" data-running={isRunning}>
      <p role="status">
        {answer !== null && (
          <>
            <strong class={answer.status < 400 ? 'good' : 'bad'}>
              {answer.status} {answer.statusText}
            </strong>{' '}
            <span class="note">{t.times(answer.headMs, answer.totalMs)}</span>{' '}
          </>
        )}
        <span class="note">{state}</span>
        {fault !== null && <span class="bad">{t.failed(fault)}</span>}
      </p>
      {answer !== null && (
        <>
          <details>
            <summary>{t.headers(answer.headers.length)}</summary>
            <pre>{answer.headers.map(([name, value]) => `${name}: ${printableJson(value)}`).join('\n')}</pre>
          </details>
          <Scroll label={t.answer}>
            <pre>{answer.body === '' ? (isRunning ? '' : t.empty) : printableJson(shownBody(answer))}</pre>
          </Scroll>
          {answer.isCut && <p class="note">{t.cut}</p>}
        </>
      )}
    </div>
  );
}

/** JSON is indented once it is whole. */
function shownBody({
  body,
  type,
  totalMs,
  isCut,
}: {
  body: string;
  type: string;
  totalMs: number | null;
  isCut: boolean;
}) {
  if (!/json/.test(type) || totalMs === null || isCut || jsonFault(body) !== null) return body;
  return JSON.stringify(JSON.parse(body), null, 2);
}

function jsonFault(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return String((error as Error).message);
  }
}

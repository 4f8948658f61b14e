/** The end of an answer is found at its last byte, and not before, whatever form the answer has and wherever it is cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerLength } from './answer.ts';

const head = (...lines: readonly string[]): string => `${['HTTP/1.1 201 Created', ...lines].join('\r\n')}\r\n\r\n`;
const ANSWERS: Readonly<Record<string, string>> = {
  'with a length': `${head('X-Request-Id: 1', 'Content-Length: 12', 'Connection: keep-alive')}{"id":"1-2"}`,
  'in lower case': `${head('content-length: 2', 'date: now')}{}`,
  'in another case, without a space': `${head('CONTENT-LENGTH:2')}{}`,
  'with more spaces': `${head('Content-Length:   2 ')}{}`,
  'with a name that ends alike': `${head('X-Content-Length: 1', 'Content-Length: 2')}{}`,
  'of no bytes': head('Content-Length: 0'),
  'without a body': 'HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n',
  'in chunks': `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n\r\n`,
  'in chunks, with a length in the body': `${head('Transfer-Encoding: chunked')}15\r\n\r\nContent-Length: 1\r\n\r\n0\r\n\r\n`,
  'a refusal': 'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\n{ }',
};

for (const [name, text] of Object.entries(ANSWERS)) {
  test(`an answer ${name}`, () => {
    for (let cut = 0; cut < text.length; cut++) assert.equal(answerLength(text.slice(0, cut)), null, `cut at ${cut}`);
    for (const next of ['', 'H', ANSWERS['with a length']]) assert.equal(answerLength(text + next), text.length);
  });
}
